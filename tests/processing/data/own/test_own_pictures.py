import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.columns import OBJECT_COLUMNS, PICTURE_COLUMNS
from processing.data.own.file_mner import FileMNER
from processing.data.own.own_pictures import OwnPictures
from processing.data.own.tables import read_table
from processing.images import NO_SUCH_FILE, UNKNOWN_FORMAT
from processing.problems import ProblemError
from processing.rows.loading_report import SplitReport
from processing.rows.row_features import ner_features, with_objects


PARIS = {"text": "Paris!", "spans": [{"start": 0, "end": 5, "label": "LOC"}]}
JORDAN = {"tokens": ["Michael", "Jordan"], "ner_tags": ["B-PER", "I-PER"]}


NUMBERS = st.floats(width=32) | st.integers() | st.sampled_from([10**400, -(10**400), None, "1", "x"])
PATHS = st.text("/.\0a", max_size=6) | st.sampled_from(["/a\0/b.jpg", "http://a/b.jpg", "a" * 5000])
ANY_PICTURE = (
    st.none()
    | PATHS
    | st.binary(max_size=3)
    | st.fixed_dictionaries({"path": st.none() | PATHS}, optional={"bytes": st.none() | st.binary(max_size=3)})
)
ANY_OBJECT = NUMBERS | st.fixed_dictionaries(
    {"label": st.sampled_from(["dog", "", None]), "score": NUMBERS, "box": st.lists(NUMBERS, min_size=3, max_size=5)}
)
PICTURES_AND_OBJECTS = datasets.Features(
    {
        name: feature
        for name, feature in with_objects(ner_features(["O"])).items()
        if name in (*PICTURE_COLUMNS, *OBJECT_COLUMNS)
    }
)


def counts(report, split="train"):
    return {name: count for name, count in report.splits[split].counts.items() if count}


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
    dataset, report = folder.write("train", *({**PARIS, "image": image} for image in images)).prepare()
    found = [image and image.getpixel((0, 0))[0] for image in dataset["train"]["image"]]
    assert found == [0, 1, 2, 2, 0] + [None] * 13
    assert not report.skipped
    url = "a URL, and nothing is downloaded: name a file below the image folder"
    assert [(picture.row_id, str(picture.problem)) for picture in report.absent] == [
        ("train-7", "a picture must be a path, bytes or a dict of the two (got '')"),
        ("train-8", NO_SUCH_FILE),
        ("train-9", UNKNOWN_FORMAT),
        ("train-10", "outside the folder of the pictures (mine)"),
        ("train-11", "outside the folder of the pictures (mine)"),
        ("train-12", url),
        ("train-13", url),
        ("train-14", "a picture must be a path, bytes or a dict of the two (got 5)"),
        ("train-15", "a picture must be a path, bytes or a dict of the two (got {'url': 'a.png'})"),
        ("train-16", "a path must not have NUL (0x00) in it (got 'a\\x00.png')"),
        ("train-17", "a path must not have NUL (0x00) in it (got '/a\\x00/b.png')"),
    ]
    names = ("images", "images_missing", "images_unreadable", "images_outside")
    assert [counts(report)[name] for name in names] == [5, 1, 6, 4]


def test_image_dir(folder, tmp_path):
    folder.save_picture(tmp_path / "pictures" / "a.png", 9)
    folder.write("train", {**PARIS, "image": "a.png"})
    assert folder.prepare(image_dir=tmp_path / "pictures")[0]["train"][0]["image"].getpixel((0, 0)) == (9, 0, 0)
    assert folder.prepare()[0]["train"][0]["image"] is None
    with pytest.raises(FileNotFoundError, match=r"image_dir='gone': no such folder"):
        folder.builder(image_dir="gone")


def test_bytes(folder, tmp_path):
    folder.save_picture(tmp_path / "a.png", 7)
    data = (tmp_path / "a.png").read_bytes()
    row = {"tokens": ["a"], "ner_tags": ["O"], "image": data, "aux_crops": [{"bytes": data[:50], "path": "b.png"}]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "train.parquet")
    builder = FileMNER(data_dir=tmp_path, cache_dir=str(tmp_path / "cache"))
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
    assert dataset["train"].features == with_objects(ner_features(["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]))
    first, second = dataset["train"]
    assert [crop.getpixel((0, 0))[0] for crop in first["aux_crops"]] == [0, 2]
    assert [item["label"] for item in first["aux_objects"]] == ["0", "2"]
    assert first["aux_objects"][1] == {"label": "2", "score": 1.0, "box": [0.0, 0.0, 2.0, 8.0]}
    assert second["aux_objects"] == second["rcnn_objects"] == second["rcnn_crops"] == []
    assert counts(report)["crops_surplus"] == 2
    assert [str(picture.problem) for picture in report.absent] == [
        NO_SUCH_FILE,
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

    monkeypatch.setattr("processing.data.own.file_source.read_table", read)
    list(FileMNER(data_dir=tmp_path, cache_dir=str(tmp_path / "cache")).as_streaming_dataset("train"))
    assert ["image" in columns for columns in asked] == [False, True]
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


@given(
    st.dictionaries(
        st.sampled_from(["image", "aux_crops", "rcnn_crops", "aux_objects", "rcnn_objects"]),
        ANY_PICTURE | ANY_OBJECT | st.lists(ANY_PICTURE | ANY_OBJECT, max_size=3),
    )
)
def test_any_pictures_and_objects_are_columns_or_a_problem(tmp_path_factory, row):
    report = SplitReport()
    pictures = OwnPictures(str(tmp_path_factory.getbasetemp()), report, {"aux": 2, "rcnn": 1})
    try:
        columns = pictures.of("train-0", row, keep_objects=True)
    except ProblemError as error:
        assert error.problem.column in OBJECT_COLUMNS
    else:
        assert not columns["image"] and not columns["aux_crops"] and not columns["rcnn_crops"]
        datasets.Dataset.from_list([columns], features=PICTURES_AND_OBJECTS)
