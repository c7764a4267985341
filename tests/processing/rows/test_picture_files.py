import pytest
from datasets import Dataset, Features
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from processing.columns import PICTURE_COLUMNS
from processing.images import FORMATS
from processing.problems import ProblemError
from processing.rows.loading_report import SplitReport
from processing.rows.picture_files import PICTURE_ENDINGS, PictureFolder, PictureReader, holds_pictures
from processing.rows.row_features import ner_features


PATHS = st.text("/.\0a", max_size=6) | st.sampled_from(["/a\0/b.jpg", "http://a/b.jpg", "a" * 5000])
ANY_PICTURE = (
    st.none()
    | st.integers()
    | PATHS
    | st.binary(max_size=3)
    | st.fixed_dictionaries({"path": st.none() | PATHS}, optional={"bytes": st.none() | st.binary(max_size=3)})
)
FEATURES = Features({name: feature for name, feature in ner_features(["O"]).items() if name in PICTURE_COLUMNS})


@given(st.dictionaries(st.sampled_from(PICTURE_COLUMNS), ANY_PICTURE | st.lists(ANY_PICTURE, max_size=3)))
def test_any_pictures_give_columns_and_a_report(tmp_path_factory, row):
    folder, report = str(tmp_path_factory.getbasetemp()), SplitReport()
    folders = dict.fromkeys(PICTURE_COLUMNS, PictureFolder(folder, folder))
    reader = PictureReader(folder, folders, {"aux_crops": 2, "rcnn_crops": 1}, report, verify=True)
    columns, absent = reader.read("train-0", row)
    assert columns == {"image": None, "aux_crops": [], "rcnn_crops": []}
    Dataset.from_list([columns], features=FEATURES)
    for column, limit in (("aux_crops", 2), ("rcnn_crops", 1)):
        listed = row.get(column) or []
        assert absent[column] == (set(range(min(len(listed), limit))) if isinstance(listed, list) else set())
    counts = [count for name, count in report.counts.items() if name.endswith(("missing", "unreadable", "outside"))]
    assert sum(counts) == len(report.absent)


@pytest.mark.parametrize("name", ["..", "a/../..", "{}/..", "{}/a/../..", "{}", "/"])
def test_a_name_that_leads_out_of_the_folder(tmp_path, name):
    with pytest.raises(ProblemError, match="the path leads out of the folder of the pictures"):
        PictureFolder(str(tmp_path), str(tmp_path)).find(name.format(tmp_path))


def test_links_to_themselves(tmp_path):
    for name in ("a.jpg", "folder"):
        (tmp_path / name).symlink_to(name)
    (tmp_path / "loop").symlink_to(".")
    assert not holds_pictures(str(tmp_path / "folder")) and holds_pictures(str(tmp_path))
    report = SplitReport()
    folders = dict.fromkeys(PICTURE_COLUMNS, PictureFolder(str(tmp_path), str(tmp_path)))
    reader = PictureReader(str(tmp_path), folders, {"aux_crops": 2, "rcnn_crops": 1}, report)
    columns, _ = reader.read("train-0", {"image": "a.jpg", "aux_crops": ["folder/b.jpg", "loop/loop/a.jpg"]})
    assert columns == {"image": None, "aux_crops": [], "rcnn_crops": []}
    assert {absent.problem.details for absent in report.absent} == {"(Too many levels of symbolic links)"}


def test_endings_are_those_of_the_formats():
    Image.init()
    formats = {name.upper() for name in FORMATS}
    assert {Image.EXTENSION[ending] for ending in PICTURE_ENDINGS} == formats
