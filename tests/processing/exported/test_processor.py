"""Tokens and pixels without transformers are those of the library's tokenizers and image processors."""

import json

import numpy as np
import pytest
from PIL import Image
from transformers import (
    AutoTokenizer,
    BitImageProcessorPil,
    CLIPImageProcessorPil,
    SiglipImageProcessorPil,
    ViTImageProcessorPil,
)

from processing import IFAformerProcessor
from processing.exported.processor import ExportedProcessor, export_facts


TEXTS = [
    "Jordan met Paris in New York City. #RT @Chelsea",
    "ünïcode  😀👍🏽 e\u0301 http://t.co/ab",
    "a",
    "\u200b…!?",
    "xq" * 90,
]


def exported(processor, folder):
    processor.save_pretrained(folder)
    facts = json.loads(json.dumps(export_facts(processor)))
    return ExportedProcessor(folder, facts)


@pytest.mark.parametrize("options", [{}, {"word_shapes": True}, {"word_splitter": "bert"}, {"max_context_length": 7}])
def test_texts_make_the_same_features(make_processor, tmp_path, options):
    processor = make_processor(max_length=30, **options)
    other = exported(processor, tmp_path)
    contexts = [[{"kind": "caption", "text": "Paris in New York"}], [], [], [], []]
    given = contexts if "max_context_length" in options else None
    one, two = ((of, of.with_contexts(of.encode_text(TEXTS), given)) for of in (processor, other))
    assert one[1] == two[1]
    assert one[0].text_features(one[1]) == two[0].text_features(two[1])
    assert one[1][-1].num_cut_words == 0 and len(one[1][-1].input_ids) <= 30


def test_pairs_make_the_same_features(make_processor, tmp_path):
    processor = make_processor(relations=["None", "peer"], max_length=12)
    processor.add_entity_markers()
    other = exported(processor, tmp_path)
    words = [["Jordan", "met", "Paris", "in", "New", "York"]]
    pair = [{"start": 0, "end": 1}], [{"start": 4, "end": 6}]
    assert processor.tokenize_pairs(words, *pair) == other.tokenize_pairs(words, *pair)
    logits = np.array([[0.3, 2.0], [1.0, -1.0]], np.float32)
    assert processor.post_process_relations(logits) == other.post_process_relations(logits)


def test_a_real_tokenizer_makes_the_same_tokens(minilm, make_processor, tmp_path):
    processor = make_processor(AutoTokenizer.from_pretrained(minilm))
    other = exported(processor, tmp_path)
    assert processor.encode_text(TEXTS) == other.encode_text(TEXTS)
    assert other.tokenizer.model_max_length == processor.tokenizer.model_max_length


SQUARE, EDGE = {"height": 40, "width": 40}, {"shortest_edge": 40}
PROCESSORS = {
    "CLIP": lambda: CLIPImageProcessorPil(size=EDGE, crop_size=SQUARE),
    "DINOv2": lambda: BitImageProcessorPil(size={"shortest_edge": 46}, crop_size=SQUARE, do_convert_rgb=True),
    "SigLIP": lambda: SiglipImageProcessorPil(size=SQUARE),
    "ViT": lambda: ViTImageProcessorPil(size=SQUARE),
    "ViT without normalisation": lambda: ViTImageProcessorPil(
        size=SQUARE, do_normalize=False, image_mean=None, image_std=None
    ),
}


@pytest.mark.parametrize("family", PROCESSORS)
def test_pictures_make_the_same_pixels(make_processor, tmp_path, family):
    tokenizer = make_processor().tokenizer
    options = {"num_aux_crops": 2, "aux_crop_size": 16, "num_rcnn_crops": 1, "rcnn_crop_size": 8}
    processor = IFAformerProcessor(PROCESSORS[family](), tokenizer, **options)
    other = exported(processor, tmp_path)
    generator = np.random.default_rng(0)
    sizes = [(41, 40), (40, 40), (97, 33), (7, 90), (1, 1), (300, 201), (39, 2)]
    pictures = [Image.fromarray(generator.integers(0, 255, (*size, 3), dtype=np.uint8)) for size in sizes]
    columns = {"image": [*pictures], "aux_crops": [[picture] * 2 for picture in pictures]}
    one, two = processor.encode_pictures(columns), other.encode_pictures(columns)
    assert one.keys() == two.keys()
    for name in one:
        for ours, theirs in zip(one[name], two[name], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    features = [{"input_ids": [1], "pixel_values": pixels} for pixels in one["pixel_values"]]
    arrays = other.data_collator.arrays(features)["pixel_values"]
    np.testing.assert_array_equal(processor.data_collator(features)["pixel_values"].numpy(), arrays)
