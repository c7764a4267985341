"""A trained model -> a folder that `processing.exported` runs, checked against the model."""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from modeling_ifaformer.checkpoints.trained import load_checkpoint, task_of
from modeling_ifaformer.prediction.input_rows import RowSource
from processing import IFAformerPipeline, IFAformerRelationPipeline
from processing.exported.graphs import ONNX_FILE, OPENVINO_FILE
from processing.exported.pipelines import FACTS_FILE, ExportedPipeline, is_exported, load_exported
from processing.exported.processor import export_facts
from processing.jobs.atomic_files import write_json

from .graph import check_exportable, graph_inputs, quiet, sample_batch, traced, write_onnx
from .precision import quantize_onnx, quantize_openvino, to_openvino


# By format, what each precision means.
PRECISIONS = {
    "onnx": {"float32": "as the model", "int8": "8-bit weights, products in float32"},
    "openvino": {
        "float32": "as the model",
        "bf16": "products in bfloat16, fast where the processor has them",
        "int8": "8-bit weights and activations (SmoothQuant)",
    },
}
LARGEST_DIFFERENCE = 1e-4  # of logits in float32
LEAST_AGREEMENT = 0.995
# (batch_size, seq_length, pictures, crops of each kind): none is that of the trace, and none and one are among them.
CHECKED_SIZES = ((1, 5, 1, 1), (3, 14, 0, 2), (2, 23, 0, 0), (4, 12, 1, 3))
ROWS_AT_ONCE = 8


@dataclass
class ExportResult:
    """
    What was exported.

    Attributes:
        folder: the exported model.
        precision: of it.
        seconds: that the export took, checks included.
        difference: the largest one between the logits of graph and model, in float32, over batches of several sizes.
        rows: of those that were given, how many were compared.
        agreement: the share of the tags, or relations, of these rows that are the model's; None without rows.
        equal_rows: the share of rows all of whose tags are.
    """

    folder: Path
    precision: str
    seconds: float
    difference: float
    rows: int = 0
    agreement: float | None = None
    equal_rows: float | None = None

    def summary(self) -> str:
        """The result in sentences."""
        told = [
            f"Exported in {self.seconds:.0f} s. In float32, the logits of graph and model differ by at most "
            f"{self.difference:.1e}."
        ]
        if self.agreement is not None:
            told.append(
                f"In {self.precision}, {100 * self.agreement:.2f} % of the answers on {self.rows} rows are those of "
                f"the model; {100 * (self.equal_rows or 0):.1f} % of the rows are answered wholly as the model does."
            )
        return " ".join(told)


def export_model(
    model: str,
    output: str | os.PathLike,
    format: str = "onnx",
    precision: str = "float32",
    rows: RowSource | None = None,
    calibration: RowSource | None = None,
    least_agreement: float = LEAST_AGREEMENT,
    overwrite: bool = False,
) -> ExportResult:
    """
    Export a trained IFAformer, for entities or relations.

    Args:
        model: its folder, or its name on the Hub.
        output: the folder to write. It appears once it is whole and checked.
        format: `onnx` or `openvino`.
        precision: of `PRECISIONS` of the format.
        rows: on which graph and model are compared. Lower precisions need them.
        calibration: rows from which the ranges of 8-bit activations are taken. They should not be those of `rows`.
        least_agreement: with a smaller share of equal answers nothing is written.
        overwrite: replace an exported model.

    Raises:
        ValueError: for a model that cannot be exported, a precision that the format does not have, rows that are
            missing or of which none can be used, and a graph that does not answer as the model does.
        OSError: for a model that is not there, and an output that cannot be written or holds something else.
        ImportError: where a package that the format needs is not installed.
    """
    start, output = time.perf_counter(), Path(output)
    check_options(format, precision, rows, calibration, least_agreement)
    check_output(output, overwrite)
    loaded, processor = load_checkpoint(model)
    loaded = loaded.float().cpu().eval()
    check_exportable(loaded, processor)
    work = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        inputs = graph_inputs(loaded.config, processor.tokenizer.model_input_names)
        write_onnx(loaded, inputs, work / ONNX_FILE)
        facts = model_facts(loaded, processor, inputs)
        _write_folder(work, loaded, processor, facts)
        tagger = load_exported(work, backend="onnxruntime")
        check_pictures(processor, tagger.processor)
        result = ExportResult(output, precision, 0.0, logits_difference(loaded, tagger))
        if not result.difference <= LARGEST_DIFFERENCE:
            raise ValueError(
                f"The logits of the graph differ from those of {model} by {result.difference:.1e}, at most "
                f"{LARGEST_DIFFERENCE:g} is expected. This is a mistake of the export: please report it."
            )
        if format == "openvino":
            to_openvino(work / ONNX_FILE, work / OPENVINO_FILE)
        if precision == "int8" and format == "openvino":
            assert calibration is not None
            with quiet():
                batches = calibration_batches(tagger, calibration)
            quantize_openvino(work / OPENVINO_FILE, batches)
        elif precision == "int8":
            quantize_onnx(work / ONNX_FILE)
        if format == "openvino":
            for file in work.glob(f"{ONNX_FILE}*"):
                file.unlink()
        facts |= {"format": format, "precision": "bf16" if precision == "bf16" else "f32", "exported_as": precision}
        write_json(facts, work / FACTS_FILE)
        if rows is not None:
            with quiet():  # Rows without crops would be told of.
                compare(loaded, processor, load_exported(work), rows, result)
            facts["agreement"] = {"rows": result.rows, "answers": result.agreement, "equal_rows": result.equal_rows}
            write_json(facts, work / FACTS_FILE)
            if result.agreement is None or result.agreement < least_agreement:
                raise ValueError(
                    f"In {precision}, {100 * (result.agreement or 0):.2f} % of the answers on {result.rows} rows are "
                    f"those of {model}, and at least {100 * least_agreement:g} % are expected. Nothing was written. "
                    "Choose another precision, or accept it (--least_agreement)."
                )
        if output.exists():
            shutil.rmtree(output)
        work.replace(output)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    result.seconds = time.perf_counter() - start
    return result


def check_options(
    format: str, precision: str, rows: RowSource | None, calibration: RowSource | None, least_agreement: float
) -> None:
    """
    Raise a ValueError for a format or precision that there is not, an agreement that is no share, and for rows that
    are needed and not given.
    """
    if not 0 <= least_agreement <= 1:
        raise ValueError(f"least_agreement is a share, from 0 to 1, got {least_agreement:g}.")
    if format not in PRECISIONS:
        raise ValueError(f"format must be one of {', '.join(PRECISIONS)}, got {format!r}.")
    if precision not in PRECISIONS[format]:
        known = ", ".join(PRECISIONS[format])
        raise ValueError(f"The precision of the format {format} must be one of {known}, got {precision!r}.")
    if precision != "float32" and rows is None:
        raise ValueError(
            f"In {precision} answers change. Name data on which they are compared with those of the model (--input or "
            "--dataset)."
        )
    if (format, precision) == ("openvino", "int8") and calibration is None:
        raise ValueError(
            "8-bit activations need rows from which their ranges are taken, other ones than those to compare on. Name "
            "a data set (--dataset), of which --calibration_split is taken."
        )


def check_output(output: Path, overwrite: bool) -> None:
    """Raise a FileExistsError for an output that is there, but for an exported model that is to be replaced."""
    if not os.path.lexists(output):
        return
    if output.is_symlink():
        raise FileExistsError(f"{output} is a link, which is not replaced. Name another output.")
    if not is_exported(output):
        raise FileExistsError(f"{output} is there and holds no exported model. Name another output.")
    if not overwrite:
        raise FileExistsError(f"{output} is there. Name another output, or replace it (--overwrite true).")


def model_facts(model: Any, processor: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """What [`ExportedPipeline`] must know of a model."""
    config, crf = model.config, getattr(model, "crf", None)
    facts = {
        "task": task_of(processor),
        "format": "onnx",
        "precision": "f32",
        "inputs": inputs,
        "model": {
            "text_attends_vision": config.text_attends_vision,
            "thresholds": config.thresholds,
        },
        "made_with": {"torch": torch.__version__, "transformers": transformers.__version__},
        **export_facts(processor),
    }
    # The graph reads no windows.
    limits = [processor.max_length, config.window_length or config.max_text_length]
    facts["max_length"] = min((limit for limit in limits if limit is not None), default=None)
    if crf is not None:
        parts = {"start": crf.start_transitions, "transitions": crf.transitions, "end": crf.end_transitions}
        facts["crf"] = {name: part.detach().float().tolist() for name, part in parts.items()}
        facts["crf"]["temperature"] = crf.temperature
    return facts


def _write_folder(folder: Path, model: Any, processor: Any, facts: dict[str, Any]) -> None:
    with quiet():
        processor.save_pretrained(folder)
    for code in folder.glob("*.py"):
        code.unlink()  # An exported model runs with the installed package alone.
    model.config.to_json_file(folder / "config.json", use_diff=False)
    write_json(facts, folder / FACTS_FILE)


def logits_difference(model: Any, tagger: ExportedPipeline) -> float:
    """The largest difference between the logits of model and graph, over random batches of `CHECKED_SIZES`."""
    largest = 0.0
    for batch_size, seq_length, num_images, number in CHECKED_SIZES:
        crops = dict.fromkeys(("aux", "rcnn"), number)
        batch = sample_batch(model.config, tagger.graph.inputs, batch_size, seq_length, num_images, crops)
        with torch.no_grad(), traced(model):
            expected = model(**batch)["logits"].numpy()
        found = tagger.graph({name: values.numpy() for name, values in batch.items()})
        real = batch["attention_mask"].bool().numpy() if found.ndim == 3 else slice(None)
        largest = max(largest, float(np.abs(expected - found)[real].max()))
    return largest


def _in_batches(rows: RowSource, size: int) -> Iterator[list[Any]]:
    columns = (row.columns for row in rows.read() if row.problem is None)
    while batch := list(islice(columns, size)):
        yield batch


def calibration_batches(
    tagger: ExportedPipeline, rows: RowSource, size: int = 4, number: int = 60
) -> list[dict[str, np.ndarray]]:
    """What the graph is fed for rows, at most `number` batches of `size` rows. No usable row is a ValueError."""
    read = (tagger.read(batch) for batch in islice(_in_batches(rows, size), number))
    batches = [tagger.graph.feed(inputs) for asked, inputs in read if asked]
    if not batches:
        raise ValueError(f"None of the rows of {', '.join(rows.names)} can be used to calibrate.")
    return batches


def check_pictures(processor: Any, exported: Any) -> None:
    """Raise a ValueError where drawn pictures come out otherwise without the library."""
    drawn = [Image.linear_gradient("L").convert("RGB").resize(size) for size in ((97, 61), (33, 250))]
    columns = {column: drawn for column, number in processor.picture_limits.items() if number}
    expected, found = processor.encode_pictures(columns), exported.encode_pictures(columns)
    for name, pixels in expected.items():
        if not all(map(np.array_equal, pixels, found[name])):
            raise ValueError(
                f"Without transformers, {name} come out otherwise than by {type(processor.image_processor).__name__}. "
                "Models with this image processor cannot be exported."
            )


def compare(model: Any, processor: Any, tagger: ExportedPipeline, rows: RowSource, result: ExportResult) -> None:
    """
    Compare the answers of model and graph on rows, and note the shares of those that are equal. Rows that make other
    features without the library, and rows of which none can be used, are a ValueError.
    """
    pipeline_class = IFAformerRelationPipeline if tagger.task == "re" else IFAformerPipeline
    of_model = pipeline_class(model, processor=processor, device="cpu")
    # Both cut texts where the graph does.
    of_model.processor.max_length = tagger.processor.max_length
    num_answers = num_equal = num_equal_rows = 0
    for batch in _in_batches(rows, ROWS_AT_ONCE):
        asked, inputs = tagger.read(batch)
        own = [row for row in (of_model.preprocess(of, on_error="report") for of in batch) if row.tokens is not None]
        _check_features([row.features for row in own], [row.features for row in asked], rows)
        if not asked:
            continue
        tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
        with torch.no_grad():
            outputs = model(**tensors)
        logits = tagger.graph(inputs)
        if tagger.task == "re":
            is_equal = (logits.argmax(-1) == outputs.logits.numpy().argmax(-1))[:, None]
            is_asked = np.ones_like(is_equal)
        else:
            assert tagger.crf is not None
            is_equal = tagger.crf.best_tags(logits, inputs["crf_mask"]) == outputs.tag_ids.numpy()
            is_asked = inputs["crf_mask"]
        num_answers += int(is_asked.sum())
        num_equal += int((is_equal & is_asked).sum())
        num_equal_rows += int((is_equal | ~is_asked).all(axis=1).sum())
        result.rows += len(asked)
    if not result.rows:
        raise ValueError(f"None of the rows of {', '.join(rows.names)} can be used to compare graph and model.")
    result.agreement, result.equal_rows = num_equal / num_answers, num_equal_rows / result.rows


def _check_features(expected: list[dict[str, Any]], found: list[dict[str, Any]], rows: RowSource) -> None:
    """Raise a ValueError where the exported processor makes other tokens or pixels than the library's."""
    for one, other in zip(expected, found, strict=True):
        names = [name for name in other if not np.array_equal(np.asarray(one[name]), np.asarray(other[name]))]
        if names:
            raise ValueError(
                f"Without transformers, {', '.join(names)} of a row of {', '.join(rows.names)} come out otherwise. "
                "Models with this tokenizer or image processor cannot be exported."
            )
