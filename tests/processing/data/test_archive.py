import itertools
import pickle
from pathlib import Path

import pytest
import torch

from processing.data.archive import read_crop_names
from processing.data.twitter_mner import TwitterMNER
from processing.rows.reporting_builder import REPORT_FILENAME


SPLITS = ("train", "validation", "test")


class TestReadCropNames:
    def test_names(self, tmp_path):
        names = {"a.jpg": ["1.png", "2.png"], "b.jpg": [], 7: ["3.png"]}
        torch.save(names, tmp_path / "a.pth")
        assert read_crop_names(str(tmp_path / "a.pth")) == names

    @pytest.mark.parametrize(
        ("value", "got"),
        [
            (["1.png"], "got list"),
            (torch.zeros(2), "got Tensor"),
            ({"a.jpg": "1.png"}, "got 'a.jpg': str"),
            ({"a.jpg": ["1.png", 1]}, "got 'a.jpg': a list with int"),
            ({1.5: ["1.png"]}, "got a float as a key: list"),
        ],
    )
    def test_other_values(self, tmp_path, value, got):
        torch.save(value, tmp_path / "a.pth")
        with pytest.raises(
            ValueError, match=rf"a\.pth: expected a dict of str \(or row numbers\) to list of str, .*{got}"
        ):
            read_crop_names(str(tmp_path / "a.pth"))

    def test_what_is_in_the_list_is_not_shown(self, tmp_path):
        endless = []
        for _ in range(60):
            endless = [endless, endless]
        torch.save({"a.jpg": endless}, tmp_path / "a.pth")  # 2 kB, of which a text would be 2**60 long
        with pytest.raises(ValueError, match=r"got 'a\.jpg': a list with list"):
            read_crop_names(str(tmp_path / "a.pth"))

    def test_a_list_that_many_images_share(self, tmp_path):
        names = ["1.png"] * 10**5
        torch.save(dict.fromkeys(range(10**5), names), tmp_path / "a.pth")
        assert read_crop_names(str(tmp_path / "a.pth"))[7] == names


class TestStreaming:
    def test_same_rows_as_prepared(self, archive):
        archive.write("train", *(archive.sentence(f"train_{i}") for i in (1, 2, 1)))
        dataset, _ = archive.prepare()
        for split, stream in archive.builder().as_streaming_dataset().items():
            assert stream.features == dataset[split].features
            streamed, prepared = list(stream), list(dataset[split])
            assert [archive.reds(row) for row in streamed] == [archive.reds(row) for row in prepared]
            texts = [[{name: row[name] for name in list(row)[:4]} for row in rows] for rows in (streamed, prepared)]
            assert texts[0] == texts[1]
        raw = archive.builder().as_streaming_dataset("train")
        assert [row for _, row in raw._ex_iterable] == list(dataset["train"].with_format("arrow").to_list())

    def test_report_fills_as_rows_are_read(self, archive):
        archive.write("train", *(archive.sentence(f"train_{i}") for i in (1, 2, 3)))
        builder = archive.builder()
        stream = builder.as_streaming_dataset("train")
        assert builder.report.splits == {}
        assert len(list(itertools.islice(stream, 2))) == 2
        assert archive.counts(builder.report)["images_missing"] == 1
        for _ in range(2):  # A second pass does not count twice.
            list(stream)
            assert archive.counts(builder.report)["images_missing"] == 2
            assert [picture.row_id for picture in builder.report.absent] == ["train-1", "train-2"]

    def test_in_worker_processes(self, archive):
        stream = archive.builder().as_streaming_dataset("train").remove_columns(["image", "aux_crops", "rcnn_crops"])
        rows = list(torch.utils.data.DataLoader(stream, batch_size=None, num_workers=1))
        assert [row["id"] for row in rows] == ["train-0"]

    def test_the_builder_pickles(self, archive):
        builder = pickle.loads(pickle.dumps(archive.builder()))
        assert archive.reds(next(iter(builder.as_streaming_dataset("test")))) == (2, [102], [202])


class TestReport:
    def test_from_the_cache(self, archive):
        archive.image("test_1").unlink()
        _, report = archive.prepare()
        builder = archive.builder()
        assert builder.report == report  # without preparing again
        list(builder.as_streaming_dataset("train"))
        assert list(builder.report.splits) == ["train"]
        builder.download_and_prepare()
        assert builder.report == report
        assert Path(builder.cache_dir, REPORT_FILENAME).is_file()

    def test_before_anything_is_read(self, archive):
        with pytest.raises(RuntimeError, match="No report yet: call download_and_prepare"):
            archive.builder().report  # noqa: B018


class TestCache:
    def test_the_same_files_are_prepared_once(self, archive, monkeypatch):
        archive.prepare()
        monkeypatch.setattr(TwitterMNER, "_generate_examples", None)
        archive.prepare()

    def test_relative_absolute_and_parent_folders_share(self, archive, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("link").symlink_to(archive.root)
        places = (archive.root, "twitter2017", "./twitter2017/", tmp_path, ".", str(archive.root), "link")
        assert len({archive.builder(data_dir=place).cache_dir for place in places}) == 1

    @pytest.mark.parametrize(
        "change",
        [
            lambda archive: archive.write("test", archive.sentence("test_1", "London\tB-LOC")),
            lambda archive: archive.save("twitter2017_test_dict.pth", {}),
            lambda archive: archive.save_picture(archive.image("test_1"), 50),
            lambda archive: archive.save_picture(archive.image("test_2"), 2),
            lambda archive: archive.image("test_1").unlink(),
            lambda archive: (archive.aux_crops("test") / "test_1_aux.png").rename(archive.aux_crops("test") / "b.png"),
            lambda archive: (archive.root / archive.rcnn["test_1"][0]).unlink(),
        ],
        ids=["text", "list", "image changed", "image added", "image removed", "crop renamed", "rcnn crop removed"],
    )
    def test_changed_files_are_prepared_afresh(self, archive, change):
        before = archive.builder().cache_dir
        change(archive)
        assert archive.builder().cache_dir != before

    def test_changed_text_gives_changed_rows(self, archive):
        assert len(archive.prepare()[0]["test"]) == 1
        archive.write("test", archive.sentence("test_1"), archive.sentence("test_1", "London\tB-LOC"))
        assert archive.prepare()[0]["test"]["tokens"][:] == [["Paris", "!"], ["London"]]

    def test_other_files_do_not_matter(self, archive):
        before = archive.builder().cache_dir
        (archive.root / "notes.md").write_text("mine")
        assert archive.builder().cache_dir == before


class TestArguments:
    def test_config_name(self, archive):
        for name in (None, "default", "twitter2016"):
            with pytest.raises(ValueError, match=r"config_name must be one of \('twitter2015', 'twitter2017'\)"):
                archive.builder(config_name=name)

    def test_no_data_dir(self):
        with pytest.raises(ValueError, match=r"data_dir is needed: .* the folder of the twitter2017 archive"):
            TwitterMNER(config_name="twitter2017")

    def test_not_an_archive(self, archive, tmp_path):
        (tmp_path / "other" / "twitter2017").mkdir(parents=True)
        (tmp_path / "other" / "a.txt").touch()
        with pytest.raises(FileNotFoundError) as error:
            archive.builder(data_dir=tmp_path / "other")
        assert "looked for train.txt, valid.txt, test.txt in the folder and in twitter2017/" in str(error.value)
        assert f"{tmp_path / 'other'} holds a.txt, twitter2017; " in str(error.value)
        assert f"{tmp_path / 'other' / 'twitter2017'} holds nothing." in str(error.value)
        with pytest.raises(FileNotFoundError, match="gone is no folder"):
            archive.builder(data_dir=tmp_path / "gone")

    def test_a_split_is_missing(self, archive):
        (archive.root / "valid.txt").unlink()
        data, report = archive.prepare()
        assert list(data) == ["train", "test"]
        assert report.notes == ["There is no validation split, for there is no valid.txt."]
        (archive.root / "train.txt").unlink()
        with pytest.raises(FileNotFoundError, match=r"holds test\.txt, twitter17_detect"):
            archive.builder()

    def test_the_other_year(self, archive, make_archive, tmp_path):
        with pytest.raises(ValueError, match="holds twitter2017, not twitter2015: pass config_name='twitter2017'"):
            archive.builder(config_name="twitter2015")
        other = make_archive(tmp_path / "data", "twitter2015")
        with pytest.raises(ValueError, match="data holds twitter2015, not twitter2017"):
            other.builder(config_name="twitter2017")

    @pytest.mark.parametrize("value", [-1, 1.5, True, "3"])
    def test_number_of_crops(self, archive, value):
        with pytest.raises(ValueError, match=f"num_rcnn_crops must be an int, 0 or more, got {value!r}"):
            archive.builder(num_rcnn_crops=value)
