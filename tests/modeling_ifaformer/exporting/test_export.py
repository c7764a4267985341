"""An export is compared with its model before it is there."""

import json

import numpy as np
import pytest
from PIL import Image

from modeling_ifaformer.exporting import PRECISIONS, export_model
from modeling_ifaformer.exporting import export as export_file
from modeling_ifaformer.prediction import RowSource
from modeling_ifaformer.prediction.input_rows import InputRow
from processing.exported import load_exported
from processing.exported.processor import ExportedImageProcessor


PICTURE = Image.linear_gradient("L").convert("RGB")
COLUMNS = [
    {"text": "Jordan met Paris in New York City", "image": PICTURE},
    {"text": "Chelsea playing", "aux_crops": [PICTURE, PICTURE]},
    {"text": "the team of Paris . # RT"},
    {"text": ""},
]


def source(columns=COLUMNS):
    return RowSource(lambda: iter([InputRow(f"row {at}", of) for at, of in enumerate(columns)]), "x", ["rows"])


@pytest.mark.parametrize(("format", "precision"), [(of, name) for of in PRECISIONS for name in PRECISIONS[of]])
def test_every_precision_is_compared_on_rows(checkpoint, tmp_path, format, precision):
    output = tmp_path / "exported"
    result = export_model(checkpoint, output, format, precision, source(), source(), least_agreement=0.5)
    assert result.rows == 3 and 0.5 <= result.agreement <= 1 and result.equal_rows <= 1
    assert f"In {precision}, " in result.summary() and "on 3 rows" in result.summary()
    facts = json.loads((output / "export.json").read_bytes())
    assert facts["agreement"]["answers"] == result.agreement and facts["exported_as"] == precision
    tagger = load_exported(output)
    rows = [dict(of) for of in COLUMNS[:3]]
    alone = [tagger(row, on_error="report") for row in rows]
    together = tagger(rows, on_error="report", batch_size=3)
    for one, other in zip(alone, together, strict=True):
        assert [of["word"] for of in one["entities"]] == [of["word"] for of in other["entities"]]
        np.testing.assert_allclose(one.confidence, other.confidence, atol=2e-3)
    if precision == "float32":
        assert result.agreement == 1
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]


def test_too_small_an_agreement_writes_nothing(checkpoint, tmp_path, monkeypatch):
    real = export_file.compare

    def worse(model, processor, tagger, rows, result):
        real(model, processor, tagger, rows, result)
        result.agreement = 0.9

    monkeypatch.setattr(export_file, "compare", worse)
    with pytest.raises(ValueError, match=r"90\.00 % of the answers on 3 rows .* at least 99\.5 % are expected"):
        export_model(checkpoint, tmp_path / "exported", "onnx", "int8", source())
    assert not list(tmp_path.iterdir())


def test_logits_that_differ_write_nothing(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(export_file, "logits_difference", lambda *arguments: float("nan"))
    with pytest.raises(ValueError, match="differ from those of"):
        export_model(checkpoint, tmp_path / "exported")
    assert not list(tmp_path.iterdir())


def test_other_pixels_without_the_library_write_nothing(checkpoint, tmp_path, monkeypatch):
    real = ExportedImageProcessor.__call__

    def brighter(self, *arguments, **options):
        return {"pixel_values": [real(self, *arguments, **options)["pixel_values"][0] + 1]}

    monkeypatch.setattr(ExportedImageProcessor, "__call__", brighter)
    with pytest.raises(ValueError, match="come out otherwise than by CLIPImageProcessor"):
        export_model(checkpoint, tmp_path / "exported")
    assert not list(tmp_path.iterdir())


def test_relations_are_compared_too(relation_checkpoint, tmp_path):
    pairs = [{"text": "Jordan met Paris", "head": "Jordan", "tail": "Paris", "image": PICTURE}]
    result = export_model(relation_checkpoint, tmp_path / "exported", rows=source(pairs))
    assert (result.rows, result.agreement) == (1, 1)


def test_options_and_outputs_that_cannot_be(checkpoint, tmp_path):
    output = tmp_path / "exported"
    with pytest.raises(ValueError, match="format must be one of onnx, openvino, got 'gguf'"):
        export_model(checkpoint, output, "gguf")
    with pytest.raises(ValueError, match="precision of the format onnx must be one of float32, int8, got 'bf16'"):
        export_model(checkpoint, output, "onnx", "bf16", source())
    with pytest.raises(ValueError, match="Name data on which they are compared"):
        export_model(checkpoint, output, "onnx", "int8")
    with pytest.raises(ValueError, match="8-bit activations need rows"):
        export_model(checkpoint, output, "openvino", "int8", source())
    with pytest.raises(ValueError, match=r"least_agreement is a share, from 0 to 1, got 99\.5"):
        export_model(checkpoint, output, rows=source(), least_agreement=99.5)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(FileExistsError, match="is a link, which is not replaced"):
        export_model(checkpoint, link, overwrite=True)
    with pytest.raises(ValueError, match="None of the rows of rows can be used to compare"):
        export_model(checkpoint, output, rows=source(COLUMNS[3:]))
    output.mkdir()
    with pytest.raises(FileExistsError, match="holds no exported model"):
        export_model(checkpoint, output, overwrite=True)
    (output / "export.json").touch()
    with pytest.raises(FileExistsError, match=r"is there\. Name another output, or replace it"):
        export_model(checkpoint, output)
    assert export_model(checkpoint, output, overwrite=True).folder == output
    assert load_exported(output)("Paris") is not None
