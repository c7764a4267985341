"""What people really feed in: inputs that went wrong once, and what becomes of them."""

import base64
import io
import shutil

import pytest
from PIL import Image

from processing.data import load_data
from processing.images import ADDRESS, ImageError, load_image
from processing.labels import entity_spans


@pytest.fixture
def cases(shared):
    if not (shared / "cases").is_dir():
        pytest.skip(f"no cases at {shared / 'cases'} (set IFAFORMER_SHARED)")
    return shared / "cases"


@pytest.fixture
def load(tmp_path):
    """A data set from a path, and its report."""
    return lambda path, **options: load_data(str(path), cache_dir=str(tmp_path / "cache"), **options)


def entities(rows):
    """The words of each entity and its type, by row."""
    names = rows.features["ner_tags"].feature.names
    return [
        [
            (" ".join(row["tokens"][start:end]), entity_type)
            for entity_type, start, end in entity_spans([names[tag] for tag in row["ner_tags"]])
        ]
        for row in rows
    ]


class TestCase01:
    @pytest.mark.parametrize(
        ("file", "expected"),
        [
            ("train.csv", [[("Jordan", "PER"), ("Paris", "LOC")], [("Phoenix", "ORG")]]),
            ("by_datasets.csv", [[("Lee", "PER"), ("Ana", "PER")]]),
            ("python_spans.csv", [[("Jordan", "PER"), ("Paris", "LOC")]]),
        ],
    )
    def test_numpy_lists_in_csv(self, cases, load, file, expected):
        data, report = load(cases / "01-numpy-lists-in-csv" / file)
        assert entities(data["train"]) == expected and not report.skipped


def test_case_05_offsets_of_javascript(cases, load):
    data, report = load(cases / "05-utf16-offsets-with-text" / "train.jsonl")
    assert entities(data["train"]) == [[("Al", "PER"), ("Ray", "PER"), ("LA", "LOC")], [("Al", "PER")]]
    assert "the offsets of 4 spans were UTF-16 units, as their own texts show" in report.notes


def test_case_11_layout_of_hvpnet(shared, load, tmp_path):
    place = tmp_path / "NER_data"
    shutil.copytree(shared / "data" / "sample" / "twitter2015", place / "twitter2015")
    for folder in ("twitter2015_images", "twitter2015_aux_images"):
        (place / "twitter2015" / folder).rename(place / folder)
    _, report = load("twitter2015", data_dir=str(place / "twitter2015"))
    counts = [split.counts for split in report.splits.values()]
    assert [(of["images"], of["aux_crops"]) for of in counts] == [(5, 10), (5, 7), (5, 7)]
    shutil.rmtree(place / "twitter2015_aux_images")
    with pytest.raises(FileNotFoundError, match="Every picture that the rows name in aux_crops is missing"):
        load("twitter2015", data_dir=str(place / "twitter2015"))


class TestCase12:
    def test_names_of_the_repository(self, cases, load):
        data, _ = load("mnre", data_dir=str(cases / "12-mnre-of-its-own-repository" / "repository"))
        assert {split: len(rows) for split, rows in data.items()} == {"train": 1, "test": 1}

    def test_first_version(self, cases, load, tmp_path):
        place = tmp_path / "version1"
        shutil.copytree(cases / "12-mnre-of-its-own-repository" / "version1", place)
        with pytest.raises(ValueError, match=r"ours_train\.txt:1: relation: must be a known relation; .*rel2id"):
            load("mnre", data_dir=str(place))
        place.chmod(0o755)
        (place / "txt").chmod(0o755)
        (place / "txt" / "ours_rel2id.json").write_text('{"none": 0, "/per/per/friend": 1}')
        data, _ = load("mnre", data_dir=str(place))
        assert data["train"].features["relation"].names == ["none", "/per/per/friend"]


def test_case_13_dev_instead_of_valid(cases, load):
    data, _ = load("twitter2015", data_dir=str(cases / "13-dev-instead-of-valid" / "txt"))
    assert [len(rows) for rows in data.values()] == [2, 2, 2]


def test_case_15_pictures_by_address():
    file = io.BytesIO()
    Image.effect_noise((200, 200), 90).save(file, "PNG")
    encoded = base64.b64encode(file.getvalue()).decode()
    for source in ("https://pbs.twimg.com/media/a.jpg", f"data:image/png;base64,{encoded}", encoded):
        with pytest.raises(ImageError) as error:
            load_image(source)
        assert error.value.problem.kind == ADDRESS and len(str(error.value)) < 400


def test_case_17_test_split_without_labels(cases, load):
    data, report = load(cases / "17-test-split-without-labels" / "data")
    assert {split: len(rows) for split, rows in data.items()} == {"train": 1, "validation": 1}
    assert sum("the test split is left out" in note for note in report.notes) == 1
