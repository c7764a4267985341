import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from processing.data.own.file_mner import FileMNER
from processing.data.own.file_source import FileMNERConfig, FileSource
from processing.data.own.find_tables import find_tables
from processing.data.own.tables import read_table
from processing.images import ADDRESS, NO_SUCH_FILE, UNKNOWN_FORMAT
from processing.problems import Problem
from processing.rows.row_features import ner_features, with_objects, with_texts


PARIS = {"text": "Paris!", "spans": [{"start": 0, "end": 5, "label": "LOC"}]}
JORDAN = {"tokens": ["Michael", "Jordan"], "ner_tags": ["B-PER", "I-PER"]}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("{", "the line cannot be read as JSON (Expecting property name"),
        ("\0", "the line is not text (its character 1 is NUL, 0x00)"),
        ({"text": 5, "spans": []}, "text: must be a string (got 5)"),
        ({**JORDAN, "aux_objects": 1}, "aux_objects: must be a list of dicts with label, score and box (got 1)"),
        (
            {"tokens": ["a"], "ner_tags": ["PER"]},
            "ner_tags: a tag does not belong to the scheme (expected O, or one of B, I, E, S, L, U, M, W, a dash and",
        ),
    ],
)
def test_rows_that_cannot_be_used_are_skipped(folder, row, problem):
    folder.write("train", PARIS, row, JORDAN)
    dataset, report = folder.prepare()
    assert dataset["train"]["id"][:] == ["train-0", "train-2"]
    (skipped,) = report.skipped
    assert skipped.where == "train.jsonl:2" and str(skipped.problem).startswith(problem)
    assert report.splits["train"].counts["rows_skipped"] == 1 and report.splits["train"].counts["rows"] == 2
    message = r"mine/train\.jsonl:2: .*\. Correct the row, or load without strict"
    with pytest.raises(ValueError, match=message) as error:
        folder.prepare(strict=True)
    assert problem in str(error.value)


def test_strict_on_good_rows(folder):
    assert folder.write("train", PARIS).prepare(strict=True)[0]["train"].num_rows == 1


def test_repeated_ids(folder):
    folder.write("train", *({**PARIS, "id": name} for name in ("a", 5, "b", "a", "5")), PARIS)
    dataset, report = folder.write("test", {**PARIS, "id": "a"}).prepare()
    assert dataset["train"]["id"][:] == ["a", "5", "b", "train-5"]
    assert dataset["test"]["id"][:] == ["a"]
    kind = "must be another one in each row"
    assert report.skipped == [
        ("train.jsonl:4", Problem(kind, "id", details="('a' is also at train.jsonl:1)")),
        ("train.jsonl:5", Problem(kind, "id", details="('5' is also at train.jsonl:2)")),
    ]
    assert report.notes[-1] == "1 ids are in train and in test: the same rows?"


@pytest.mark.parametrize("names", [["train-1", None, "train-1-2"], [None, None, "train-1"], ["train-2", 0, None]])
def test_a_made_up_id_is_no_other_rows(folder, names):
    rows = [PARIS if name is None else {**PARIS, "id": name} for name in names]
    dataset, report = folder.write("train", *rows).prepare(strict=True)
    ids = dataset["train"]["id"][:]
    assert not report.skipped and len(set(ids)) == 3
    assert [one for one, name in zip(ids, names, strict=True) if name is not None] == [
        str(name) for name in names if name is not None
    ]
    assert all(one.startswith("train-") for one, name in zip(ids, names, strict=True) if name is None)


def test_an_unreadable_row_in_the_middle_of_100_000(tmp_path, write_rows):
    lines = [f'{{"id": "{i}", "tokens": ["a"], "ner_tags": ["O"]}}' for i in range(100_000)]
    lines[50_000] = lines[50_000][:20]
    write_rows(tmp_path / "train.jsonl", lines)
    source, skipped = FileSource(find_tables(tmp_path), FileMNERConfig()), []
    ids = [row.row_id for _, row in source.rows("train", skipped, with_pictures=True)]
    assert len(ids) == 99_999 and ids[50_000] == "50001"
    details = "(Unterminated string starting at character 17)"
    assert skipped == [("train.jsonl:50001", Problem("the line cannot be read as JSON", details=details))]
    builder = FileMNER(data_dir=tmp_path, cache_dir=str(tmp_path / "cache"), strict=True)
    with pytest.raises(ValueError, match=r"/train\.jsonl:50001: the line cannot be read as JSON"):
        builder.download_and_prepare()


@pytest.mark.parametrize("change", ["text", "picture", "added picture", "split", "option"])
def test_changes_are_prepared_afresh(folder, change):
    folder.save_picture("sub/a.png")
    folder.write("train", {**PARIS, "image": "sub/a.png"})
    before = folder.builder().cache_dir
    assert folder.builder().cache_dir == before
    options = {}
    if change == "text":
        folder.write("train", {**PARIS, "image": "sub/b.png"})
    elif change == "picture":
        folder.save_picture("sub/a.png", 1)
    elif change == "added picture":
        folder.save_picture("sub/b.png")
    elif change == "split":
        (folder.root / "train.jsonl").rename(folder.root / "test.jsonl")
    else:
        options = {"entity_types": ["LOC"]}
    assert folder.builder(**options).cache_dir != before


@pytest.mark.parametrize("name", ["a.jpg_large", "a.jpg:orig", "a", "a.JPEG"])
def test_a_replaced_picture_of_any_name(folder, name):
    folder.write("train", {**PARIS, "image": name})
    (folder.root / name).write_text("<html>404</html>")
    assert folder.prepare(verify_pictures=True)[0]["train"][0]["image"] is None
    folder.save_picture(name, 200)
    assert folder.prepare(verify_pictures=True)[0]["train"][0]["image"].getpixel((0, 0))[0] == 200


def test_what_is_no_picture_needs_no_other_preparation(folder):
    folder.save_picture("a.png")
    folder.cache = folder.root / "cache"  # below the pictures
    folder.write("train", {**PARIS, "image": "a.png"}).prepare()
    (folder.root / "nowhere").symlink_to("gone")
    before = folder.builder().cache_dir
    os.utime(folder.root / "train.jsonl", (1, 1))  # the same text
    folder.prepare()
    assert folder.builder().cache_dir == before


def test_a_text_that_names_no_picture_needs_no_listing(folder):
    folder.save_picture("a.png")
    before = folder.write("train", PARIS).builder().cache_dir
    folder.save_picture("b.png")
    assert folder.builder().cache_dir == before


def test_changed_parquet(tmp_path):
    def cache_dir(*tags):
        rows = [{"tokens": ["a"] * len(tags), "ner_tags": list(tags)}]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
        return FileMNER(data_dir=tmp_path / "x.parquet", cache_dir=str(tmp_path / "cache")).cache_dir

    assert cache_dir("O") != cache_dir("O", "B-X", "I-X")


def test_sources(folder, tmp_path):
    for colour, name in enumerate(("a.png", "sub/b.png", "c.png")):
        folder.save_picture(name, colour)
    (tmp_path / "link").symlink_to(folder.root)
    folder.save_picture(tmp_path / "outside.png")
    (folder.root / "page.png").write_text("<html>")
    images = [
        "a.png",
        "./sub/../sub/b.png",
        str(folder.root / "c.png"),
        str(tmp_path / "link" / "c.png"),
        {"path": "a.png", "bytes": None},
        {"path": None, "bytes": None},
        None,
        "",
        "gone.png",
        "page.png",
        "../outside.png",
        str(tmp_path / "outside.png"),
        "https://example.org/a.png",
        "data:image/png;base64,AAAA",
        5,
        {"url": "a.png"},
        "a\0.png",
        "/a\0/b.png",
    ]
    folder.write("train", *({**PARIS, "image": image} for image in images))
    dataset, report = folder.prepare(verify_pictures=True)
    found = [image and image.getpixel((0, 0))[0] for image in dataset["train"]["image"]]
    assert found == [0, 1, 2, 2, 0] + [None] * 13
    assert not report.skipped
    url = ADDRESS
    assert {(picture.problem.column, picture.problem.item) for picture in report.absent} == {("image", None)}
    assert [(picture.row_id, str(picture.problem).removeprefix("image: ")) for picture in report.absent] == [
        ("train-7", "a picture must be a path, bytes or a dict of the two (got '')"),
        ("train-8", NO_SUCH_FILE),
        ("train-9", UNKNOWN_FORMAT),
        ("train-10", "the path leads out of the folder of the pictures (mine)"),
        ("train-11", "the path leads out of the folder of the pictures (mine)"),
        ("train-12", url),
        ("train-13", url),
        ("train-14", "a picture must be a path, bytes or a dict of the two (got 5)"),
        ("train-15", "a picture must be a path, bytes or a dict of the two (got {'url': 'a.png'})"),
        ("train-16", "a path must not have NUL (0x00) in it (got 'a\\x00.png')"),
        ("train-17", "a path must not have NUL (0x00) in it (got '/a\\x00/b.png')"),
    ]
    names = ("images", "images_missing", "images_unreadable", "images_outside")
    assert [report.splits["train"].counts[name] for name in names] == [5, 1, 6, 4]
    _, unverified = folder.prepare()
    assert unverified.absent == [picture for picture in report.absent if picture.row_id != "train-9"]
    assert [unverified.splits["train"].counts[name] for name in names] == [6, 1, 5, 4]


def test_image_dir(folder, tmp_path):
    folder.save_picture(tmp_path / "pictures" / "a.png", 9)
    folder.write("train", {**PARIS, "image": "a.png"})
    assert folder.prepare(image_dir=tmp_path / "pictures")[0]["train"][0]["image"].getpixel((0, 0)) == (9, 0, 0)
    assert folder.prepare()[0]["train"][0]["image"] is None
    with pytest.raises(FileNotFoundError, match=r"image_dir='gone' is not there"):
        folder.builder(image_dir="gone")


def test_pictures_outside_their_folder(folder, tmp_path):
    paths = [folder.save_picture(tmp_path / f"{name}.png") or str(tmp_path / f"{name}.png") for name in "ab"]
    folder.write("train", *({**PARIS, "image": path} for path in paths))
    with pytest.raises(FileNotFoundError, match=r"is outside the folder of the pictures \(2\); .* by --image_dir"):
        folder.prepare()
    dataset, report = folder.prepare(image_dir="/")
    assert None not in dataset["train"]["image"] and not report.absent


def test_bytes(folder, tmp_path):
    folder.save_picture(tmp_path / "a.png", 7)
    data = (tmp_path / "a.png").read_bytes()
    row = {"tokens": ["a"], "ner_tags": ["O"], "image": data, "aux_crops": [{"bytes": data[:50], "path": "b.png"}]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "train.parquet")
    builder = FileMNER(data_dir=tmp_path, cache_dir=str(tmp_path / "cache"), verify_pictures=True)
    builder.download_and_prepare()
    (read,) = builder.as_dataset("train")
    assert read["image"].getpixel((0, 0)) == (7, 0, 0) and read["aux_crops"] == []
    assert [picture.path for picture in builder.report.absent] == ["b.png"]


def test_crops_and_objects(folder):
    for colour in range(5):
        folder.save_picture(f"{colour}.png", colour)
    (folder.root / "1.png").unlink()
    boxes = [{"label": str(i), "score": 1, "box": [0, 0, i, 8]} for i in range(5)]
    row = {**PARIS, "aux_crops": [f"{i}.png" for i in range(5)], "aux_objects": boxes}
    folder.write("train", row, {**JORDAN, "rcnn_crops": "0.png"})
    dataset, report = folder.prepare(num_aux_crops=3)
    assert dataset["train"].features == with_objects(
        with_texts(ner_features(["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]))
    )
    first, second = dataset["train"]
    assert [crop.getpixel((0, 0))[0] for crop in first["aux_crops"]] == [0, 2]
    assert [item["label"] for item in first["aux_objects"]] == ["0", "2"]
    assert first["aux_objects"][1] == {"label": "2", "score": 1.0, "box": [0.0, 0.0, 2.0, 8.0]}
    assert second["aux_objects"] == second["rcnn_objects"] == second["rcnn_crops"] == []
    assert report.splits["train"].counts["crops_surplus"] == 2
    assert [str(picture.problem) for picture in report.absent] == [
        f"aux_crops 1: {NO_SUCH_FILE}",
        "rcnn_crops: must be a list of pictures",
    ]
    streamed = list(folder.builder(num_aux_crops=3).as_streaming_dataset("train"))
    assert streamed[0]["aux_objects"] == first["aux_objects"]


def test_the_first_pass_reads_no_pictures(tmp_path, monkeypatch):
    pq.write_table(pa.Table.from_pylist([{**JORDAN, "image": b"", "more": 1}]), tmp_path / "train.parquet")
    asked = []

    def read(path, columns):
        asked.append(columns)
        return read_table(path, columns)

    for module in ("file_source", "tables"):
        monkeypatch.setattr(f"processing.data.own.{module}.read_table", read)
    list(FileMNER(data_dir=tmp_path, cache_dir=str(tmp_path / "cache")).as_streaming_dataset("train"))
    assert ["image" in columns for columns in asked] == [*[False] * (len(asked) - 1), True]
    assert not any("more" in columns for columns in asked)


def test_csv(folder, tmp_path):
    for colour in range(3):
        folder.save_picture(tmp_path / f"{colour}.png", colour)
    (tmp_path / "x.csv").write_text("tokens,ner_tags,image,aux_crops\na b,O B-X,0.png,1.png;2.png\nc,O,,\n")
    builder = FileMNER(data_dir=tmp_path / "x.csv", cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare()
    first, second = builder.as_dataset("train")
    assert first["image"].getpixel((0, 0))[0] == 0
    assert [crop.getpixel((0, 0))[0] for crop in first["aux_crops"]] == [1, 2]
    assert second["image"] is None and second["aux_crops"] == []
    assert not builder.report.absent
