import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, arrow_dataset
from datasets import Image as ImageFeature
from datasets.arrow_writer import ArrowWriter
from PIL import Image

from processing import IFAformerProcessor, processing_ifaformer
from processing.data.demo.entity_tweets import DemoMNER
from processing.data.demo.relation_tweets import RELATIONS, DemoRelations
from processing.data.loading import encode_pictures
from processing.data.mnre import MNRE, MNRE_RELATIONS
from processing.features import prepare as features_module
from processing.features.prepare import prepare_features
from processing.features.tokenizer_training import train_wordpiece
from processing.images import load_image
from processing.labels import TWITTER_TAGS
from processing.rows.row_features import ner_features


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


def cache_files(rows, processor, tmp_path) -> set[str]:
    """Names of the files with texts and with pixels."""
    return {file["filename"] for file in prepare_features(rows, processor, cache_dir=str(tmp_path)).cache_files}


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
    stored = next(row for row in prepared if row["pixel_values"] is not None)
    assert {stored[f"{kind}pixel_values"].dtype for kind in ("", "aux_", "rcnn_")} == {np.dtype("uint8")}
    batch = processor.data_collator(list(prepared))
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
    files = [file["filename"] for file in prepared.cache_files]
    assert len(files) == 2 and all(file.startswith(str(tmp_path)) for file in files)

    def collate(features):
        with open("/proc/self/maps") as maps:
            mapped = maps.read()
        return processor.data_collator(features) | {"mapped": [file in mapped for file in files]}

    loader = torch.utils.data.DataLoader(prepared, 2, collate_fn=collate, num_workers=2)
    batches = [processor.normalize_pixels(batch) for batch in loader]
    assert all(batch.pop("mapped") == [True, True] for batch in batches)
    whole = processor.normalize_pixels(processor.data_collator([prepared[0], prepared[1]]))
    assert torch.equal(batches[0]["aux_pixel_values"], whole["aux_pixel_values"])


def test_several_processes_prepare_the_same(rows, make_processor, tmp_path):
    processor = make_processor()
    one = prepare_features(rows, processor, cache_dir=str(tmp_path / "one"))
    two = prepare_features(rows, processor, cache_dir=str(tmp_path / "two"), num_proc=2)
    assert len(two.cache_files) == 4
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
    files = [cache_files(rows, make_processor(**options), tmp_path) for options in ({}, {}, settings)]
    assert files[0] == files[1] and len(files[0]) == 2
    assert len(files[0] - files[2]) == 1


def test_the_cache_is_keyed_by_vocabulary_pixels_and_rows(rows, make_processor, tmp_path):
    ours = cache_files(rows, make_processor(), tmp_path)
    other_tokenizer = make_processor(tokenizer=train_wordpiece(["Jordan", "Paris"], 90))
    assert len(ours & cache_files(rows, other_tokenizer, tmp_path)) == 1
    other_pixels = make_processor()
    other_pixels.image_processor.resample = 0
    assert len(ours & cache_files(rows, other_pixels, tmp_path)) == 1
    selections = [cache_files(rows.select(chosen), make_processor(), tmp_path) for chosen in ([0, 2], [2, 0])]
    assert len(ours.union(*selections)) == 6

    used = make_processor(max_length=5)
    before = cache_files(rows, used, tmp_path)
    used(text="Jordan " * 9)  # leaves truncation behind in the tokenizer
    assert cache_files(rows, used, tmp_path) == before


def test_a_saved_processor_decodes_nothing_again(rows, make_processor, tmp_path, decoded):
    processor = make_processor()
    ours = cache_files(rows, processor, tmp_path)
    number = len(decoded)
    processor.save_pretrained(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    loaded = [IFAformerProcessor.from_pretrained(tmp_path / name) for name in ("one", "two")]
    for same in (processor, *loaded):
        assert cache_files(rows, same, tmp_path) == ours
    # normalisation is none of the stored pixels' business
    processor.image_processor.image_mean = [0.1, 0.2, 0.3]
    assert cache_files(rows, processor, tmp_path) == ours
    assert len(decoded) == number


def test_texts_and_labels_cost_no_decoding(rows, make_processor, tmp_path, decoded):
    cache_files(rows, make_processor(), tmp_path)
    number = len(decoded)
    prepare_features(rows, make_processor(max_length=4), cache_dir=str(tmp_path))
    without = prepare_features(rows, make_processor(), cache_dir=str(tmp_path), labels=False)
    assert "labels" not in without.column_names and len(decoded) == number


@pytest.mark.parametrize(
    "name",
    [
        "features",
        "processing_ifaformer",
        "decoding",
        "entity_markers",
        "labels",
        "tokenizing",
        "words",
        "images",
    ],
)
def test_the_cache_is_keyed_by_the_code(rows, make_processor, tmp_path, monkeypatch, name):
    before = cache_files(rows, make_processor(), tmp_path)
    path = str(Path(features_module.__file__).with_name(f"{name}.py"))
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda file: read_bytes(file) + (b"#" if str(file) == path else b""))
    assert not before & cache_files(rows, make_processor(), tmp_path)


def test_more_crops_than_the_processor_takes(rows, make_processor, tmp_path, caplog):
    prepared = prepare_features(rows, make_processor(num_aux_crops=2), cache_dir=str(tmp_path))
    assert [len(row["aux_pixel_values"]) for row in prepared] == [2, 0, 2]
    assert "1 rows have more than 2 aux_crops: the first 2 are used" in caplog.text
    assert "rcnn" not in caplog.text


def test_no_rows(rows, make_processor, tmp_path):
    assert len(prepare_features(rows.select([]), make_processor(), cache_dir=str(tmp_path))) == 0


def test_one_picture_in_memory_at_a_time(rows, make_processor, tmp_path, monkeypatch):
    alive, most = set(), 0

    def load(source):
        nonlocal most
        image = load_image(source)
        alive.add(id(image))
        weakref.finalize(image, alive.discard, id(image))
        most = max(most, len(alive))
        return image

    monkeypatch.setattr(processing_ifaformer, "load_image", load)
    prepare_features(rows, make_processor(), cache_dir=str(tmp_path))
    assert 1 <= most <= 2  # the last one goes when its name is taken by the next


def test_rows_with_other_tags(rows, make_processor, tmp_path):
    processor = make_processor(tags=["O", "B-PER", "I-PER"])
    with pytest.raises(ValueError, match=r"The rows have the tags O, B-MISC, .*; the processor has O, B-PER, I-PER"):
        prepare_features(rows, processor, cache_dir=str(tmp_path))


def relation_rows(tmp_path, number=6) -> Dataset:
    builder = DemoRelations(cache_dir=str(tmp_path), num_train=number, num_validation=0, num_test=0)
    builder.download_and_prepare()
    return encode_pictures(builder.as_dataset())["train"]


def test_relations(make_processor, tmp_path, decoded):
    rows = relation_rows(tmp_path)
    processor = make_processor(relations=RELATIONS)
    processor.add_entity_markers()
    prepared = prepare_features(rows, processor, cache_dir=str(tmp_path))
    assert [row["labels"] for row in prepared] == list(rows["relation"])
    batch = processor.normalize_pixels(processor.data_collator(list(prepared)))
    direct = processor(
        text=list(rows["tokens"]),
        images=list(rows["image"]),
        **{f"{kind}_crops": [crops[:n] for crops in rows[f"{kind}_crops"]] for kind, n in (("aux", 3), ("rcnn", 2))},
        heads=list(rows["head"]),
        tails=list(rows["tail"]),
        return_tensors="pt",
    )
    assert batch.pop("labels").shape == (6,) and "crf_mask" not in batch
    assert set(batch) == set(direct)
    assert all(torch.equal(batch[name].to(values.dtype), values) for name, values in direct.items())
    number = len(decoded)
    same = prepare_features(rows, processor, cache_dir=str(tmp_path))
    assert same.cache_files == prepared.cache_files and len(decoded) == number
    without = prepare_features(rows, processor, cache_dir=str(tmp_path), labels=False)
    assert "labels" not in without.column_names and len(decoded) == number


def test_text_only_relations(shared, make_processor, tmp_path):
    builder = MNRE(data_dir=shared / "data" / "mnre", cache_dir=str(tmp_path))
    builder.download_and_prepare()
    rows = builder.as_dataset(split="validation").select(range(50))
    processor = make_processor(label_scheme="deepke", relations=MNRE_RELATIONS)
    processor.add_entity_markers()
    batch = processor.data_collator(list(prepare_features(rows, processor, cache_dir=str(tmp_path))))
    assert batch["labels"].tolist() == list(rows["relation"]) and "pixel_values" not in batch


def test_rows_of_the_other_task_or_other_relations(rows, make_processor, tmp_path):
    relations = relation_rows(tmp_path, 2)
    processor = make_processor(relations=["None", "a"])
    processor.add_entity_markers()
    with pytest.raises(ValueError, match=r"The rows have the relations None, /per/per.*; the processor has None, a\."):
        prepare_features(relations, processor, cache_dir=str(tmp_path))
    assert len(prepare_features(relations, processor, cache_dir=str(tmp_path), labels=False)) == 2
    with pytest.raises(ValueError, match=r"The rows have the relations None, .*; the processor has none\."):
        prepare_features(relations, make_processor(), cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match="heads and tails are for relation extraction"):
        prepare_features(relations, make_processor(), cache_dir=str(tmp_path), labels=False)
    with pytest.raises(ValueError, match=r"The rows have the tags O, .*; the processor has none\."):
        prepare_features(rows, processor, cache_dir=str(tmp_path))


def test_a_row_whose_entities_have_no_room_is_named(make_processor, tmp_path):
    processor = make_processor(relations=RELATIONS, max_length=6)
    processor.add_entity_markers()
    with pytest.raises(ValueError, match=r"Row 'train-0' cannot be prepared: Text 0 .* there is room for 4"):
        prepare_features(relation_rows(tmp_path, 2), processor, cache_dir=str(tmp_path))


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

    monkeypatch.setattr(ArrowWriter, "write_batch", no_space)
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
    while len(list(folder.glob("*/*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list(folder.glob("*/tmp*"))) == 1 and len(list(folder.glob("*/features.arrow"))) == 1  # amid pixels

    both = [run_prepare(tmp_path) for _ in range(2)]
    printed = {process.communicate()[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert not list(folder.glob("*/tmp*")) and len(list(folder.glob("*/features.arrow"))) == 2
    shutil.rmtree(folder)
    uninterrupted = run_prepare(tmp_path)
    assert printed == {uninterrupted.communicate()[0]}
