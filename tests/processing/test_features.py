import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from datasets import Dataset, arrow_dataset
from datasets import Image as ImageFeature
from PIL import Image

from processing import features as features_module
from processing import processing_ifaformer
from processing.demo_mner import DemoMNER
from processing.features import TokenMasking, prepare_features
from processing.labels import TWITTER_TAGS
from processing.mnre import MNRE
from processing.rows import ner_features


def picture(seed: int, size=(40, 30)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def dataset_of(rows: list[dict]) -> Dataset:
    columns = {name: [row.get(name) for row in rows] for name in ner_features(TWITTER_TAGS)}
    return Dataset.from_dict(columns, features=ner_features(TWITTER_TAGS))


@pytest.fixture
def rows() -> Dataset:
    """Three tweets: with everything, with nothing, with a picture and crops of one kind."""
    full = {"tokens": ["Jordan", "met", "Paris"], "ner_tags": ["B-PER", "O", "B-LOC"]}
    return dataset_of(
        [
            {
                "id": "a",
                **full,
                "image": picture(0),
                "aux_crops": [picture(1), picture(2)],
                "rcnn_crops": [picture(3)],
            },
            {"id": "b", "tokens": ["unaffable"], "ner_tags": ["O"], "aux_crops": [], "rcnn_crops": []},
            {"id": "c", **full, "image": picture(4), "aux_crops": [picture(5)] * 3, "rcnn_crops": []},
        ]
    )


@pytest.fixture
def decoded(monkeypatch) -> list:
    """The pictures decoded since the test began."""
    calls: list = []
    load_image = processing_ifaformer.load_image
    monkeypatch.setattr(processing_ifaformer, "load_image", lambda source: calls.append(source) or load_image(source))
    return calls


def test_a_batch_equals_that_of_a_direct_call(rows, make_processor, tmp_path):
    processor = make_processor()
    prepared = prepare_features(rows, processor, cache_dir=str(tmp_path))
    raw = processor.data_collator(prepared[:] and list(prepared))
    assert {raw[f"{kind}pixel_values"].dtype for kind in ("", "aux_", "rcnn_")} == {torch.uint8}
    batch = processor.normalize_pixels(raw)
    direct = processor(
        text=list(rows["tokens"]),
        images=list(rows["image"]),
        aux_crops=list(rows["aux_crops"]),
        rcnn_crops=list(rows["rcnn_crops"]),
        word_labels=list(rows["ner_tags"]),
        return_tensors="pt",
    )
    assert set(batch) == set(direct)
    for name, values in direct.items():
        assert torch.equal(batch[name].to(values.dtype), values), name


def test_pixels_are_those_of_the_image_processor(rows, make_processor, tmp_path):
    processor = make_processor()
    batch = processor.normalize_pixels(
        processor.data_collator(list(prepare_features(rows, processor, cache_dir=str(tmp_path))))
    )
    expected = processor.image_processor(rows[0]["image"], return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(batch["pixel_values"][0], expected, rtol=1e-6, atol=1e-6)
    crop = processor.image_processor(
        rows[0]["aux_crops"][1],
        size={"shortest_edge": 16},
        crop_size={"height": 16, "width": 16},
        return_tensors="pt",
    )["pixel_values"][0]
    torch.testing.assert_close(batch["aux_pixel_values"][0, 1], crop, rtol=1e-6, atol=1e-6)
    # what is absent is zeros after normalising, as in the published code, not the colour that zeros stand for
    assert not batch["pixel_values"][1].any() and not batch["aux_pixel_values"][0, 2].any()


def test_each_picture_is_decoded_once_whatever_the_epochs(rows, make_processor, tmp_path, decoded):
    prepared = prepare_features(rows, make_processor(), cache_dir=str(tmp_path))
    assert len(decoded) == 8
    epochs = [list(prepared) for _ in range(3)]
    again = list(prepare_features(rows, make_processor(), cache_dir=str(tmp_path)))
    assert len(decoded) == 8
    for epoch in (*epochs, again):
        assert np.array_equal(epoch[2]["aux_pixel_values"], epochs[0][2]["aux_pixel_values"])


def test_worker_processes_share_the_map(rows, make_processor, tmp_path):
    processor = make_processor()
    prepared = prepare_features(rows, processor, cache_dir=str(tmp_path))
    assert [file["filename"].startswith(str(tmp_path)) for file in prepared.cache_files] == [True]
    loader = torch.utils.data.DataLoader(prepared, 2, collate_fn=processor.data_collator, num_workers=2)
    batches = [processor.normalize_pixels(batch) for batch in loader]
    whole = processor.normalize_pixels(processor.data_collator([prepared[0], prepared[1]]))
    assert torch.equal(batches[0]["aux_pixel_values"], whole["aux_pixel_values"])


def test_several_processes_prepare_the_same(rows, make_processor, tmp_path):
    processor = make_processor()
    one = prepare_features(rows, processor, cache_dir=str(tmp_path / "one"))
    two = prepare_features(rows, processor, cache_dir=str(tmp_path / "two"), num_proc=2)
    assert len(two.cache_files) == 2
    for row, other in zip(one, two, strict=True):
        assert set(row) == set(other)
        for name in row:
            assert np.array_equal(row[name], other[name]), name


@pytest.mark.parametrize(
    "settings",
    [
        {"label_scheme": "deepke"},
        {"max_length": 4},
        {"aux_crop_size": 8},
        {"use_whole_image": False},
        {"num_rcnn_crops": 1},
    ],
)
def test_the_cache_is_keyed_by_the_processor(rows, make_processor, tmp_path, settings):
    def cache_file(processor):
        return prepare_features(rows, processor, cache_dir=str(tmp_path)).cache_files[0]["filename"]

    assert cache_file(make_processor()) == cache_file(make_processor())
    assert cache_file(make_processor()) != cache_file(make_processor(**settings))


def test_the_cache_is_keyed_by_vocabulary_pixels_and_rows(rows, make_processor, tmp_path):
    from processing.tokenizer_training import train_wordpiece

    def cache_file(processor, rows=rows):
        return prepare_features(rows, processor, cache_dir=str(tmp_path)).cache_files[0]["filename"]

    other_tokenizer = make_processor(tokenizer=train_wordpiece(["Jordan", "Paris"], 90))
    other_pixels = make_processor()
    other_pixels.image_processor.resample = 0
    files = [cache_file(make_processor()), cache_file(other_tokenizer), cache_file(other_pixels)]
    files += [cache_file(make_processor(), rows.select([0, 2])), cache_file(make_processor(), rows.select([2, 0]))]
    assert len(set(files)) == 5

    used = make_processor(max_length=5)
    before = cache_file(used)
    used(text="Jordan " * 9)  # leaves truncation behind in the tokenizer
    assert cache_file(used) == before


def test_the_cache_is_keyed_by_the_code(rows, make_processor, tmp_path, monkeypatch):
    def cache_file():
        return prepare_features(rows, make_processor(), cache_dir=str(tmp_path)).cache_files[0]["filename"]

    before = cache_file()
    changed = tmp_path / "features.py"
    changed.write_text("# changed\n")
    monkeypatch.setattr(features_module, "__file__", str(changed))
    assert cache_file() != before


def test_rows_with_other_tags(rows, make_processor, tmp_path):
    processor = make_processor(tags=["O", "B-PER", "I-PER"])
    with pytest.raises(ValueError, match=r"The rows have the tags O, B-MISC, .*; the processor has O, B-PER, I-PER"):
        prepare_features(rows, processor, cache_dir=str(tmp_path))


def test_masking_draws_anew_and_spares_special_tokens(rows, make_processor, tmp_path):
    processor = make_processor()
    tokenizer = processor.tokenizer
    prepared = prepare_features(rows, processor, cache_dir=str(tmp_path), mask_probability=0.5)
    plain = prepare_features(rows, processor, cache_dir=str(tmp_path))
    torch.manual_seed(0)
    drawn = [tuple(prepared[0]["input_ids"]) for _ in range(20)]
    assert len(set(drawn)) > 3
    for ids in drawn:
        for token, original in zip(ids, plain[0]["input_ids"], strict=True):
            assert token == original or (
                token == tokenizer.mask_token_id and original not in tokenizer.all_special_ids
            )
    masking = TokenMasking(0.3, mask_token_id=1, kept_ids=frozenset({0}))
    masked = masking([5] * 10_000 + [0] * 10)
    assert masked[-10:] == [0] * 10 and 0.28 < masked.count(1) / 10_000 < 0.32


def test_text_only_and_relations(shared, make_processor, tmp_path):
    builder = MNRE(data_dir=shared / "data" / "mnre", cache_dir=str(tmp_path))
    builder.download_and_prepare()
    rows = builder.as_dataset(split="validation").select(range(50))
    processor = make_processor(label_scheme="deepke")
    processor.add_entity_markers()
    prepared = prepare_features(rows, processor, cache_dir=str(tmp_path))
    assert [row["labels"] for row in prepared] == list(rows["relation"])
    assert "crf_mask" not in prepared.column_names
    batch = processor.data_collator(list(prepared))
    assert batch["labels"].shape == (50,) and "pixel_values" not in batch


def test_a_picture_that_vanished_is_named_by_its_row(make_processor, tmp_path):
    picture(0).save(tmp_path / "here.png")
    picture(1).save(tmp_path / "gone.png")
    rows = dataset_of(
        [
            {"id": f"tweet-{name}", "tokens": ["Paris"], "ner_tags": ["O"], "aux_crops": [], "rcnn_crops": []}
            | {"image": str(tmp_path / f"{name}.png")}
            for name in ("here", "gone")
        ]
    ).cast_column("image", ImageFeature(decode=False))
    (tmp_path / "gone.png").unlink()
    with pytest.raises(ValueError, match=r"Row 'tweet-gone' cannot be prepared: image 0 .*gone\.png: no such file"):
        prepare_features(rows, make_processor(), cache_dir=str(tmp_path))


def test_a_full_disk_names_the_folder(rows, make_processor, tmp_path, monkeypatch):
    def no_space(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Dataset, "map", no_space)
    with pytest.raises(OSError, match=r"no space left in .*free some, give another cache_dir") as error:
        prepare_features(rows, make_processor(), cache_dir=str(tmp_path))
    assert error.value.errno == errno.ENOSPC and str(tmp_path) in str(error.value)


def test_a_read_only_cache(rows, make_processor, tmp_path, monkeypatch):
    expected = list(prepare_features(rows, make_processor(), cache_dir=str(tmp_path)))

    def read_only(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(features_module.FileLock, "acquire", read_only)
    monkeypatch.setattr(arrow_dataset.tempfile, "NamedTemporaryFile", read_only)
    again = list(prepare_features(rows, make_processor(), cache_dir=str(tmp_path)))
    assert np.array_equal(again[0]["pixel_values"], expected[0]["pixel_values"])
    with pytest.raises(OSError, match=r"cannot be written: allow it, give another cache_dir"):
        prepare_features(rows, make_processor(max_length=4), cache_dir=str(tmp_path))


PREPARE = """
import sys
from transformers import CLIPImageProcessorPil
from processing import IFAformerProcessor
from processing.demo_mner import DemoMNER
from processing.features import prepare_features
from processing.tokenizer_training import train_wordpiece

cache = sys.argv[1]
builder = DemoMNER(cache_dir=cache, num_train=600, num_validation=0, num_test=0)
builder.download_and_prepare()
rows = builder.as_dataset(split="train")
size = {"height": 24, "width": 24}
image_processor = CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size=size)
processor = IFAformerProcessor(image_processor, train_wordpiece(["Jordan", "Paris"]), aux_crop_size=16)
print("ready", flush=True)
prepared = prepare_features(rows, processor, cache_dir=cache)
print(len(prepared), sum(int(row["aux_pixel_values"].sum()) for row in prepared))
"""


def run_prepare(cache) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", PREPARE, str(cache)], stdout=subprocess.PIPE, text=True)


def test_killed_and_run_again_and_two_at_once(tmp_path):
    builder = DemoMNER(cache_dir=str(tmp_path), num_train=600, num_validation=0, num_test=0)
    builder.download_and_prepare()
    process = run_prepare(tmp_path)
    assert process.stdout.readline() == "ready\n"
    folder = tmp_path / "ifaformer_features"
    deadline = time.monotonic() + 30
    while not list(folder.glob("*/tmp*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(folder.glob("*/tmp*")) and not list(folder.glob("*/features*.arrow"))

    both = [run_prepare(tmp_path) for _ in range(2)]
    printed = {process.communicate()[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert not list(folder.glob("*/tmp*")) and len(list(folder.glob("*/features.arrow"))) == 1
    shutil.rmtree(folder)
    uninterrupted = run_prepare(tmp_path)
    assert printed == {uninterrupted.communicate()[0]}
