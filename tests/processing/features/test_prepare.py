import errno
import multiprocessing
import os
import shutil
import signal
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, arrow_dataset
from datasets.arrow_writer import ArrowWriter
from PIL import Image
from transformers import Trainer, TrainingArguments

from processing import IFAformerProcessor, images, tokenizing
from processing.columns import PICTURE_COLUMNS
from processing.data.demo.relation_tweets import RELATIONS, DemoRelations
from processing.data.loading import encode_pictures
from processing.features import prepare as features_module
from processing.features.prepare import PROBLEMS, prepare_features, unusable_pictures
from processing.features.tokenizer_training import train_wordpiece
from processing.images import DAMAGED, NO_SUCH_FILE, load_image
from processing.labels import TWITTER_TAGS
from processing.problems import Problem
from processing.rows.row_features import ner_features, re_features, with_context, with_texts
from processing.scoring.splits import Split


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


def test_words_that_are_not_the_processor_s_are_told(make_processor, tmp_path, caplog):
    """The text and the words' offsets change no feature; the pipeline would split the text as its processor does."""
    features, text = with_texts(ner_features(TWITTER_TAGS)), "Jordan🔥 Paris"
    rows = {"text": [text, None], "tokens": [["Jordan", "🔥", "Paris"]] * 2, "ner_tags": [[3, 0, 7]] * 2}
    rows |= {"offsets": [[[0, 6], [6, 7], [8, 13]], []], "id": ["a", "b"], "image_id": [None] * 2, "image": [None] * 2}
    data = Dataset.from_dict(rows | {"aux_crops": [[]] * 2, "rcnn_crops": [[]] * 2}, features=features)
    one, other = prepare_features(data, make_processor(), cache_dir=str(tmp_path)).with_format(None)
    assert "other words" not in caplog.text
    assert {**one, "row": 1} == other
    prepare_features(data, make_processor(word_splitter="bert"), cache_dir=str(tmp_path))
    assert (
        "1 rows have other words than the processor makes of their texts: its word_splitter is 'bert'" in caplog.text
    )


def cache_files(rows, processor, tmp_path) -> set[str]:
    """Names of the files with texts and with pixels."""
    return {file["filename"] for file in prepare_features(rows, processor, cache_dir=str(tmp_path)).cache_files}


@pytest.fixture
def decoded(monkeypatch) -> list:
    """The pictures decoded since the test began."""
    calls: list = []
    load_image = images.load_image
    monkeypatch.setattr(images, "load_image", lambda source, *limit: calls.append(source) or load_image(source))
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
    batch = processor.data_collator.normalized(
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
    batches = [processor.data_collator.normalized(batch) for batch in loader]
    assert all(batch.pop("mapped") == [True, True] for batch in batches)
    whole = processor.data_collator.normalized(processor.data_collator([prepared[0], prepared[1]]))
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


def test_the_cache_is_keyed_by_the_code(rows, make_processor, tmp_path, monkeypatch):
    before = cache_files(rows, make_processor(), tmp_path)
    monkeypatch.setattr(features_module, "code_digest", lambda: "other code")
    assert cache_files(rows, make_processor(), tmp_path).isdisjoint(before)


def test_more_crops_than_the_processor_takes(rows, make_processor, tmp_path, caplog):
    prepared = prepare_features(rows, make_processor(num_aux_crops=2), cache_dir=str(tmp_path))
    assert [len(row["aux_pixel_values"]) for row in prepared] == [2, 0, 2]
    assert "1 rows have more than 2 aux_crops; of these a row's first ones alone" in caplog.text
    assert "rcnn" not in caplog.text
    caplog.clear()
    prepare_features(rows, make_processor(num_aux_crops=0, num_rcnn_crops=0), cache_dir=str(tmp_path))
    (said,) = caplog.messages
    assert "2 rows have more than 0 aux_crops and" in said and "more than 0 rcnn_crops; " in said


def test_no_rows(rows, make_processor, tmp_path):
    nothing = prepare_features(rows.select([]), make_processor(), cache_dir=str(tmp_path))
    some = prepare_features(rows, make_processor(), cache_dir=str(tmp_path))
    assert len(nothing) == 0 and nothing.features == some.features


def test_one_picture_in_memory_at_a_time(rows, make_processor, tmp_path, monkeypatch):
    alive, most = set(), 0

    def load(source, *limit):
        nonlocal most
        image = load_image(source)
        alive.add(id(image))
        weakref.finalize(image, alive.discard, id(image))
        most = max(most, len(alive))
        return image

    monkeypatch.setattr(images, "load_image", load)
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
    batch = processor.data_collator.normalized(processor.data_collator(list(prepared)))
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


def test_text_only_relations(make_processor, tmp_path):
    rows = relation_rows(tmp_path).remove_columns(list(PICTURE_COLUMNS))
    processor = make_processor(label_scheme="deepke", relations=RELATIONS)
    processor.add_entity_markers()
    batch = processor.data_collator(list(prepare_features(rows, processor, cache_dir=str(tmp_path))))
    assert batch["labels"].tolist() == list(rows["relation"]) and "pixel_values" not in batch


def test_rows_of_the_other_task_or_other_relations(rows, make_processor, tmp_path):
    relations = relation_rows(tmp_path, 2)
    processor = make_processor(relations=["None", "a"])
    processor.add_entity_markers()
    with pytest.raises(ValueError, match=r"The rows have the relations None, /per/per.*; the processor has None, a\."):
        prepare_features(relations, processor, cache_dir=str(tmp_path))
    for of_any_task in (processor, make_processor()):
        assert len(prepare_features(relations, of_any_task, cache_dir=str(tmp_path), labels=False)) == 2
    with pytest.raises(ValueError, match=r"The rows have the relations None, .*; the processor has none\."):
        prepare_features(relations, make_processor(), cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match=r"The rows have the tags O, .*; the processor has none\."):
        prepare_features(rows, processor, cache_dir=str(tmp_path))
    with pytest.raises(
        ValueError, match=r"its rows need the columns head and tail\. These rows have id, image_id, tokens"
    ):
        prepare_features(rows, processor, cache_dir=str(tmp_path), labels=False)


def test_the_word_of_each_token(rows, make_processor, tmp_path):
    processor = make_processor()
    for row in prepare_features(rows, processor, cache_dir=str(tmp_path)):
        [text] = processor.encode_text([rows[row["row"]]["tokens"]], is_split_into_words=True)
        assert row["word_ids"] == [-1 if word is None else word for word in text.word_ids]
        assert row["word_ids"][0] == row["word_ids"][-1] == -1 and set(row["word_ids"]) == {
            -1,
            *range(len(text.words)),
        }


def test_each_text_is_tokenized_once(rows, make_processor, tmp_path, monkeypatch):
    tokenized = []
    tokenize_words = tokenizing.tokenize_words
    monkeypatch.setattr(
        tokenizing,
        "tokenize_words",
        lambda _, words, *rest: tokenized.extend(words) or tokenize_words(_, words, *rest),
    )
    split = Split(rows, make_processor(), cache_dir=str(tmp_path))
    split.score([row["labels"] for row in split.features])
    Split(rows, make_processor(), cache_dir=str(tmp_path))
    assert tokenized == list(rows["tokens"])


def test_rows_that_the_model_cannot_read_are_left_out(rows, make_processor, tmp_path, caplog):
    unreadable = rows.map(lambda row, index: {"tokens": ["\u200d"]} if index == 1 else {}, with_indices=True)
    prepared = prepare_features(unreadable, make_processor(), cache_dir=str(tmp_path))
    assert [row["row"] for row in prepared] == [0, 2] and caplog.text.count("1 rows have no token") == 1
    whole = prepare_features(rows, make_processor(), cache_dir=str(tmp_path))
    for row in prepared:
        assert np.array_equal(row["aux_pixel_values"], whole[row["row"]]["aux_pixel_values"])


def test_a_head_that_is_no_span_is_told_with_its_row(make_processor, tmp_path):
    rows = relation_rows(tmp_path).map(
        lambda row, index: {"head": row["head"] | {"end": 99}} if index == 4 else {}, with_indices=True
    )
    processor = make_processor(relations=RELATIONS)
    processor.add_entity_markers()
    with pytest.raises(ValueError, match=r"Row 'train-4' cannot be prepared: .*head: the entity is no span of words"):
        prepare_features(rows, processor, cache_dir=str(tmp_path))


def test_a_tag_that_is_none_is_told_with_its_row(rows, make_processor, tmp_path):
    wrong = rows.map(lambda row, index: {"ner_tags": [0]} if index == 2 else {}, with_indices=True)
    with pytest.raises(ValueError, match=r"^Row 'c' cannot be prepared: Text 0 .*: there are 3 words but 1 labels"):
        prepare_features(wrong, make_processor(), cache_dir=str(tmp_path))


def test_a_plain_trainer_takes_the_features(rows, make_processor, make_model, tmp_path):
    processor = make_processor()
    features = prepare_features(rows, processor, cache_dir=str(tmp_path))
    arguments = TrainingArguments(
        str(tmp_path / "out"),
        max_steps=2,
        per_device_train_batch_size=2,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
    )
    trainer = Trainer(make_model(processor), arguments, train_dataset=features, data_collator=processor.data_collator)
    assert np.isfinite(trainer.train().training_loss)
    predictions = trainer.predict(features).predictions
    assert len(predictions[0]) == len(features)


@pytest.fixture
def damaged(tmp_path) -> tuple[Dataset, Dataset]:
    """Rows with pictures that cannot be used, and the same rows without these."""
    for name in ("a", "b", "cut"):
        picture(ord(name[0])).save(tmp_path / f"{name}.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:2000])
    a, b, cut, gone = (str(tmp_path / f"{name}.png") for name in ("a", "b", "cut", "gone"))
    given = [
        {"image": cut, "aux_crops": [a, cut, b], "rcnn_crops": [gone, a]},
        {"image": a, "aux_crops": [], "rcnn_crops": [b]},
        {"image": gone, "aux_crops": [cut], "rcnn_crops": []},
    ]
    words = {"tokens": ["Paris"], "ner_tags": ["O"]}
    usable = [
        {"image": None, "aux_crops": [a, b], "rcnn_crops": [a]},
        given[1],
        {"image": None, "aux_crops": [], "rcnn_crops": []},
    ]
    one, two = (
        encode_pictures(
            DatasetDict(x=dataset_of([{"id": f"tweet-{n}", **words, **row} for n, row in enumerate(rows)]))
        )
        for rows in (given, usable)
    )
    return one["x"], two["x"]


def test_pictures_that_cannot_be_used_count_as_absent(damaged, make_processor, tmp_path, caplog, decoded):
    rows, usable = damaged
    processor = make_processor()
    expected = prepare_features(usable, processor, cache_dir=str(tmp_path / "usable"))
    assert not unusable_pictures(expected, usable) and not caplog.text
    decoded.clear()
    truncated = Problem(DAMAGED, details="(image file is truncated)")
    found = [
        ("tweet-0", replace(truncated, column="image")),
        ("tweet-0", replace(truncated, column="aux_crops", item=1)),
        ("tweet-0", Problem(NO_SUCH_FILE, "rcnn_crops", 0)),
        ("tweet-2", Problem(NO_SUCH_FILE, "image")),
        ("tweet-2", replace(truncated, column="aux_crops", item=0)),
    ]
    for folder, processes in (("one", None), ("one", None), ("two", 2)):  # the second time from the cache
        caplog.clear()
        prepared = prepare_features(rows, processor, cache_dir=str(tmp_path / folder), num_proc=processes)
        assert unusable_pictures(prepared, rows) == found
        counts = f"5 pictures of 2 rows cannot be used and count as absent: 3 x {DAMAGED}, 2 x {NO_SUCH_FILE}. "
        assert counts in caplog.text and f"\ntweet-0: rcnn_crops 0: {NO_SUCH_FILE}\n" in caplog.text
        for row, other in zip(prepared, expected, strict=True):
            assert row.keys() == other.keys()
            assert all(np.array_equal(row[name], other[name]) for name in row if name != PROBLEMS)
    assert len(decoded) == 10, "a picture is opened once"
    chosen = prepared.select([2, 1])
    assert unusable_pictures(chosen, rows) == found[3:]


@pytest.mark.parametrize("column", ["image", "aux_crops"])
def test_pictures_of_which_none_can_be_used(make_processor, tmp_path, column):
    """As where the files are those that Git LFS puts in the place of the real ones."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    rows = [{"id": f"tweet-{number}", "tokens": ["Paris"], "ner_tags": ["O"]} for number in range(2)]
    pictures = {"image": picture(1), "aux_crops": [], "rcnn_crops": []}
    given = {column: pointer if column == "image" else [pointer]}
    data = encode_pictures(DatasetDict(train=dataset_of([{**row, **pictures, **given} for row in rows])))
    with pytest.raises(
        ValueError, match=f"none of the 2 pictures in the column {column} can be used. The first is that"
    ):
        prepare_features(data["train"], make_processor(), cache_dir=str(tmp_path))


def test_a_full_disk_names_the_folder(rows, make_processor, tmp_path, monkeypatch):
    def no_space(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ArrowWriter, "write_batch", no_space)
    with pytest.raises(OSError, match=r"no space left in .*Free some, give another cache_dir") as error:
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
    with pytest.raises(OSError, match=r"cannot be written\. Allow it, give another cache_dir"):
        prepare_features(rows, make_processor(max_length=4), cache_dir=str(tmp_path))


FORK = multiprocessing.get_context("fork")


def in_processes(*targets) -> list[multiprocessing.Process]:
    """The processes of these functions, which have ended."""
    processes = [FORK.Process(target=target) for target in targets]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        process.kill()
        process.join()
    return processes


def test_what_a_killed_process_leaves_behind_goes(rows, make_processor, tmp_path, monkeypatch):
    decoded: list = []
    expected = list(prepare_features(rows, make_processor(), cache_dir=str(tmp_path / "whole")))

    def die_of_the_last_row(source, *limit):
        if len(decoded) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        decoded.append(source)
        return load_image(source)

    with monkeypatch.context() as patch:
        patch.setattr(features_module, "ROWS_A_BATCH", 1)
        patch.setattr(images, "load_image", die_of_the_last_row)
        [process] = in_processes(lambda: prepare_features(rows, make_processor(), cache_dir=str(tmp_path)))
    assert process.exitcode == -signal.SIGKILL
    folder = tmp_path / "ifaformer_features"
    assert len(list(folder.glob("*/tmp*"))) == 1 and len(list(folder.glob("*/features.arrow"))) == 1  # amid pixels
    again = prepare_features(rows, make_processor(), cache_dir=str(tmp_path))
    assert not list(folder.glob("*/tmp*")) and len(list(folder.glob("*/features.arrow"))) == 2
    for row, other in zip(again, expected, strict=True):
        assert np.array_equal(row["aux_pixel_values"], other["aux_pixel_values"])


@pytest.mark.parametrize("num_proc", [1, 2])
def test_features_that_the_disk_has_changed_are_prepared_anew(rows, make_processor, tmp_path, caplog, num_proc):
    def prepare():
        caplog.clear()
        return list(prepare_features(rows, make_processor(), cache_dir=str(tmp_path), num_proc=num_proc))

    expected = prepare()
    assert prepare() and "damaged" not in caplog.text
    path = max(tmp_path.glob("ifaformer_features/*/features*.arrow"), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    again = prepare()
    assert (
        f"The prepared features in {path.parent} are damaged, since the content of {path.name} is not" in caplog.text
    )
    for row, other in zip(again, expected, strict=True):
        assert row.keys() == other.keys()
        assert all(np.array_equal(value, other[name]) for name, value in row.items())
    assert prepare() and "damaged" not in caplog.text


def test_of_two_at_once_one_prepares(rows, make_processor, tmp_path, decoded):
    together, numbers = FORK.Barrier(2), FORK.Queue()

    def prepare():
        together.wait(timeout=60)
        prepare_features(rows, make_processor(), cache_dir=str(tmp_path))
        numbers.put(len(decoded))

    processes = in_processes(prepare, prepare)
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted(numbers.get(timeout=10) for _ in processes) == [0, 8]


class TestContexts:
    @pytest.fixture
    def told(self, rows):
        contexts = [[{"kind": "caption", "text": "the team playing"}], [], [{"kind": None, "text": "the " * 40}]]
        features = with_context(rows.features)
        return Dataset.from_dict({**rows[:], "context": contexts}, features=features)

    def test_they_stand_behind_the_texts_and_what_is_cut_is_told(self, make_processor, told, rows, tmp_path, caplog):
        processor = make_processor(max_context_length=20)
        features = prepare_features(told, processor, str(tmp_path))
        assert "1 rows are read without the end of their context (20 tokens): it is longer than" in caplog.text
        direct = processor(text=told["tokens"][:], context=told["context"][:], word_labels=told["ner_tags"][:])
        plain = prepare_features(rows, make_processor(), str(tmp_path))
        for row, (read, without) in enumerate(zip(features, plain, strict=True)):
            for name in ("input_ids", "attention_mask", "token_type_ids", "crf_mask", "labels", "context_mask"):
                assert read[name] == direct[name][row]
            number = len(without["input_ids"])
            assert read["word_ids"] == [*without["word_ids"], *[-1] * (len(read["word_ids"]) - number)]
        assert features["num_cut_context"][:] == [0, 0, 20]
        assert "context_mask" not in processor.data_collator([features[0], features[1]])
        collator = replace(processor.data_collator, keep_context_mask=True)
        mask = collator([features[0], features[1]])["context_mask"]
        assert mask.any(dim=1).tolist() == [True, False]
        # Another length is another preparation.
        assert prepare_features(told, make_processor(max_context_length=5), str(tmp_path))["num_cut_context"][2] == 35

    def test_a_text_without_room_has_none(self, make_processor, told, tmp_path, caplog):
        processor = make_processor(max_context_length=20, max_length=5)
        features = prepare_features(told, processor, str(tmp_path))
        assert "1 of them without any of it" in caplog.text or "2 of them without any of it" in caplog.text
        assert max(map(len, features["input_ids"])) <= 5

    def test_a_processor_that_reads_none(self, make_processor, told, rows, tmp_path, caplog):
        features = prepare_features(told, make_processor(), str(tmp_path))
        assert "the column context is not looked at, since the processor has no max_context_length" in caplog.text
        plain = prepare_features(rows, make_processor(), str(tmp_path))
        assert features.column_names == plain.column_names and features["input_ids"][:] == plain["input_ids"][:]

    def test_pairs_with_a_relation_have_contexts_too(self, make_processor, tmp_path):
        entities = {"head": {"name": "Jordan", "start": 0, "end": 1}, "tail": {"name": "Paris", "start": 2, "end": 3}}
        row = {"id": "a", "image_id": None, "tokens": ["Jordan", "met", "Paris"], **entities, "relation": "peer"}
        row |= {"image": None, "aux_crops": [], "rcnn_crops": []}
        context = [{"kind": None, "text": "<s> the team"}]
        features = with_context(re_features(["None", "peer"]))
        rows = Dataset.from_list([{**row, "context": context}, {**row, "id": "b", "context": []}], features=features)
        processor = make_processor(relations=["None", "peer"], max_context_length=9, max_length=40)
        processor.add_entity_markers()
        read, plain = prepare_features(rows, processor, str(tmp_path))
        number = len(plain["input_ids"])
        assert read["input_ids"][:number] == plain["input_ids"] and read["labels"] == plain["labels"] == 1
        assert read["context_mask"] == [False] * number + [True] * (len(read["input_ids"]) - number)
        assert set(read["word_ids"][number:]) == {-1} and len(read["input_ids"]) > number
        assert set(processor.marker_ids).isdisjoint(read["input_ids"][number:])
