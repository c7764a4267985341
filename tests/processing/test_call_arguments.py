"""The library's own arguments of a processor's call."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from processing import IFAformerProcessor


TEXTS = ["Jordan met Paris in New York", "Paris"]
SHORT = {"max_length": 5}


@pytest.fixture
def processor(make_processor):
    return make_processor()


def lengths(data):
    return [len(ids) for ids in data["input_ids"]]


def test_tensors_of_both_kinds(processor):
    picture = Image.linear_gradient("L")
    torch_batch = processor(text=TEXTS, images=[picture, None], return_tensors="pt")
    numpy_batch = processor(text=TEXTS, images=[picture, None], return_tensors="np")
    assert torch_batch.keys() == numpy_batch.keys()
    for name, values in numpy_batch.items():
        assert isinstance(values, np.ndarray)
        assert torch.equal(torch.from_numpy(values), torch_batch[name])


def test_texts_are_cut_and_padded_as_tokenizers_do(make_processor, processor):
    whole = lengths(processor(text=TEXTS))
    assert whole[0] > 5 > whole[1]
    assert lengths(processor(text=TEXTS, **SHORT)) == [5, whole[1]]
    assert lengths(processor(text=TEXTS, truncation=True, **SHORT)) == [5, whole[1]]
    cut = make_processor(**SHORT)
    assert lengths(cut(text=TEXTS)) == [5, whole[1]]
    assert lengths(cut(text=TEXTS, max_length=6)) == [6, whole[1]]
    for truncation in (False, "do_not_truncate"):
        assert lengths(cut(text=TEXTS, truncation=truncation)) == whole
    assert lengths(processor(text=TEXTS, padding=True)) == [whole[0]] * 2
    assert lengths(processor(text=TEXTS, padding="max_length", max_length=30)) == [30, 30]
    batch = processor(text=TEXTS, padding="max_length", max_length=30, return_tensors="pt")
    assert batch["input_ids"].shape == batch["crf_mask"].shape == (2, 30)
    assert batch["attention_mask"].sum(-1).tolist() == whole
    batch = processor(text=TEXTS, padding_side="left", return_tensors="pt")
    assert batch["attention_mask"].tolist()[1] == [0] * (whole[0] - whole[1]) + [1] * whole[1]
    right = processor(text=TEXTS, return_tensors="pt")
    assert batch["crf_mask"].sum(-1).tolist() == right["crf_mask"].sum(-1).tolist()
    with pytest.raises(ValueError, match="make no tensor with padding=False"):
        processor(text=TEXTS, padding=False, return_tensors="pt")
    assert processor(text=TEXTS[0], padding=False, return_tensors="pt")["input_ids"].shape == (1, whole[0])
    with pytest.raises(ValueError, match="padding='max_length' needs a max_length"):
        processor(text=TEXTS, padding="max_length")
    assert processor.max_length is None and cut.max_length == 5  # a call changes nothing


def test_one_length_of_the_processor_s_own(make_processor):
    processor = make_processor(max_length=12, pad_to_max_length=True)
    assert processor(text=TEXTS, return_tensors="pt")["input_ids"].shape == (2, 12)
    assert processor(text=TEXTS, padding=True, return_tensors="pt")["input_ids"].shape[1] < 12
    assert processor(text=TEXTS, max_length=20, return_tensors="pt")["input_ids"].shape == (2, 20)


def test_pixels_are_scaled_as_a_call_asks(processor):
    picture = Image.linear_gradient("L")
    given = processor(text="Jordan", images=picture)["pixel_values"][0]
    raw = processor(text="Jordan", images=picture, do_rescale=False, do_normalize=False, return_tensors="np")
    assert np.array_equal(raw["pixel_values"][0], given)
    for pixels in (
        processor(text="Jordan", images=picture, do_normalize=False, rescale_factor=0.5, return_tensors="np"),
        processor(
            text="Jordan",
            images=picture,
            images_kwargs={"do_normalize": False, "rescale_factor": 0.5},
            common_kwargs={"return_tensors": "np"},
        ),
    ):
        assert np.allclose(pixels["pixel_values"][0], given / 2)
    assert processor.image_processor.do_normalize  # a call changes nothing


def test_a_tokenizer_that_was_made_to_pad(make_processor):
    tokenizer = make_processor().tokenizer
    tokenizer.init_kwargs |= {"padding": "max_length", "max_length": 25}
    assert make_processor(tokenizer)(text=TEXTS, return_tensors="pt")["input_ids"].shape == (2, 25)
    del tokenizer.init_kwargs["padding"]  # tokenizers are saved with lengths that nobody asked for
    assert lengths(make_processor(tokenizer)(text="Jordan met " * 20)) > [25]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 3}, r"Unknown arguments \['stride'\]"),
        ({"text_kwargs": {"stride": 3}}, r"Unknown arguments \['stride'\]"),
        ({"images_kwargs": {"size": 3}}, r"Unknown arguments \['size'\]"),
        ({"padding": "most"}, "most"),
        ({"truncation": "most"}, "most"),
        ({"max_length": 0}, "max_length must be at least 1"),
        ({"return_tensors": "tf"}, "return_tensors must be 'pt', 'np' or None, got 'tf'"),
        ({"padding_side": "top"}, "padding_side must be 'left' or 'right', got 'top'"),
        ({"padding": True, "text_kwargs": {"padding": True}}, "passed two times"),
    ],
)
def test_what_is_refused(arguments, message, processor):
    with pytest.raises(ValueError, match=message):
        processor(text=TEXTS, **arguments)


def test_a_picture_in_place_of_the_text(processor):
    with pytest.raises(ValueError, match=r"text must be a string or a list, got Image\. It comes first"):
        processor(Image.linear_gradient("L"), "Jordan")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        *(({"max_length": value}, "max_length must be at least 1, got") for value in (-3, 0, "x", 2.5)),
        *(
            ({"max_megapixels": value}, "max_megapixels must be a number above 0, got")
            for value in (0, -1, np.nan, "1")
        ),
        *(
            ({"num_aux_crops": value}, "num_aux_crops must be a whole number of at least 0")
            for value in (-1, None, "3")
        ),
        ({"rcnn_crop_size": 0}, "rcnn_crop_size must be a whole number of at least 1, got 0"),
        ({"use_whole_image": "no"}, "use_whole_image must be true or false, got 'no'"),
        ({"pad_to_max_length": None}, "pad_to_max_length must be true or false, got None"),
        *(({"tags": value}, "tags must be a list of strings, got") for value in ("BIO", ["O", 1])),
        ({"relations": 3}, "relations must be a list of strings, got 3"),
        *(({"entity_markers": value}, "four different strings") for value in (["<a>", "<b>"], ["<a>"] * 4)),
        ({"word_splitter": ["bert"]}, "word_splitter must be one of unicode, bert"),
    ],
)
def test_a_field_that_cannot_be(field, message, make_processor, tmp_path):
    make_processor().save_pretrained(tmp_path)
    path = tmp_path / "processor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | field))
    with pytest.raises(ValueError, match=message):
        IFAformerProcessor.from_pretrained(tmp_path)


def test_calls_in_threads_do_not_change_each_other(processor):
    texts = ["Jordan met Paris in New York City " * 6] * 20
    expected = {length: processor(text=texts, max_length=length)["input_ids"] for length in range(5, 25)}
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda length: processor(text=texts, max_length=length)["input_ids"], expected)
        assert list(found) == list(expected.values())


def test_an_input_of_the_model_is_one_it_takes(make_processor):
    names = make_processor(num_aux_crops=0).model_input_names
    assert {"pixel_values", "image_mask", "rcnn_pixel_values"} < {*names} and "aux_pixel_values" not in names
