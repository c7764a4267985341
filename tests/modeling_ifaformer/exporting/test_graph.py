"""One graph for every batch size, length and number of pictures, of towers of every family."""

import pytest
import torch

from modeling_ifaformer import IFAformerForTokenClassification
from modeling_ifaformer.exporting import export_model
from modeling_ifaformer.exporting.graph import check_exportable, graph_inputs, sample_batch, traced
from processing.labels import label_maps


def saved(folder, make_config, processor, kind, **fields):
    torch.manual_seed(0)
    config = make_config(kind, **label_maps(processor.labels), **fields)
    model = IFAformerForTokenClassification(config)
    with torch.no_grad():
        model.classifier.weight.mul_(40)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("modernbert and siglip", {}),
        ("distilbert and dinov2", {}),
        ("electra and vit", {"word_shapes": True}),
        ("mkgformer", {}),
        ("corrected", {"text_attends_vision": False, "vision_attends_text": False}),
        ("corrected", {"num_aux_crops": 1, "num_rcnn_crops": 0}),
        ("corrected", {"max_images": 2}),
    ],
)
def test_logits_are_those_of_the_model_in_every_size(make_config, make_processor, tmp_path, kind, fields):
    of_processor = {name: value for name, value in fields.items() if "attends" not in name}
    processor = make_processor(**of_processor)
    model = saved(tmp_path / "model", make_config, processor, kind, **fields)
    result = export_model(model, tmp_path / "exported")
    assert result.difference <= 1e-4


def test_a_model_is_what_it_was_after_the_trace(checkpoint, tmp_path, make_inputs):
    model = IFAformerForTokenClassification.from_pretrained(checkpoint).eval()
    inputs = {**make_inputs(), "crf_mask": torch.ones(3, 7, dtype=torch.bool)}
    before = model(**inputs)
    with traced(model):
        assert model(**sample_batch(model.config, graph_inputs(model.config, [])))["logits"].shape[:2] == (2, 9)
    assert type(model) is IFAformerForTokenClassification and model.config.max_images == 1
    torch.testing.assert_close(model(**inputs).logits, before.logits, rtol=0, atol=0)


def test_models_that_no_graph_can_stand_for(make_config, make_processor):
    processor = make_processor()
    config = make_config("deepke", use_whole_image=False, **label_maps(processor.labels))
    with pytest.raises(ValueError, match="depends on the length to which texts are padded"):
        check_exportable(IFAformerForTokenClassification(config), processor)
    with pytest.raises(ValueError, match="Only IFAformer models are exported, and this one is a Linear"):
        model = torch.nn.Linear(1, 1)
        model.config = None
        check_exportable(model, processor)
