import itertools
import os
import re
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from processing.data.twitter_mner import TwitterMNER, read_sentences
from processing.images import EMPTY, NO_SUCH_FILE, UNKNOWN_FORMAT, load_image
from processing.labels import TWITTER_TAGS


SHARED = Path(os.environ.get("IFAFORMER_SHARED", Path(__file__).resolve().parents[4] / "shared"))
SPLITS = ("train", "validation", "test")

needs_shared = pytest.mark.skipif(
    not (SHARED / "data").is_dir(), reason=f"real data not found at {SHARED / 'data'}; set IFAFORMER_SHARED"
)


def sentence(image_id: str, *lines: str) -> str:
    return "\n".join([f"IMGID:{image_id}", *(lines or ["Paris\tB-LOC", "!\tO"]), ""])


class TestReadSentences:
    def read(self, tmp_path, data: str | bytes) -> list:
        self.path = tmp_path / "train.txt"
        self.path.write_bytes(data.encode() if isinstance(data, str) else data)
        return list(read_sentences(str(self.path)))

    def test_sentences(self, tmp_path):
        text = sentence("7", "New\tB-LOC", "York\tI-LOC") + "\n" + sentence("8", "a\tI-OTHER", "b\tB-OTHER", "c\tO")
        assert self.read(tmp_path, text) == [
            ("7", ["New", "York"], ["B-LOC", "I-LOC"]),
            ("8", ["a", "b", "c"], ["I-MISC", "B-MISC", "O"]),
        ]

    @pytest.mark.parametrize("end", ["", "\n", "\n\n", "\n\n\n\n", "\r\n"])
    def test_the_last_sentence_is_not_lost(self, tmp_path, end):
        assert self.read(tmp_path, "IMGID:1\na\tO\n\nIMGID:2\nb\tO" + end)[-1] == ("2", ["b"], ["O"])

    def test_windows_line_ends_and_byte_order_mark(self, tmp_path):
        data = b"\xef\xbb\xbf" + sentence("1").replace("\n", "\r\n").encode()
        assert self.read(tmp_path, data) == [("1", ["Paris", "!"], ["B-LOC", "O"])]

    def test_an_image_of_several_sentences(self, tmp_path):
        assert [row.image_id for row in self.read(tmp_path, sentence("1") + "\n" + sentence("1"))] == ["1", "1"]

    def test_no_blank_line_between_sentences(self, tmp_path):
        assert self.read(tmp_path, "IMGID:1\na\tO\nIMGID:2\nb\tO\n") == [("1", ["a"], ["O"]), ("2", ["b"], ["O"])]

    def test_a_token_that_looks_like_a_header(self, tmp_path):
        assert self.read(tmp_path, "IMGID:1\nIMGID:2\tO\n")[0].tokens == ["IMGID:2"]

    def test_an_empty_file(self, tmp_path):
        assert self.read(tmp_path, "") == self.read(tmp_path, "\n\n") == []

    @pytest.mark.parametrize(
        ("text", "line", "message"),
        [
            ("IMGID:1\na\tO\nb O\n", 3, r"must be 'token<TAB>tag' \(got 1 columns: 'b O'\)"),
            ("IMGID:1\na\tO\n \n", 3, r"must be 'token<TAB>tag' \(got 1 columns: ' '\)"),
            ("IMGID:1\na\tNN\tO\n", 2, r"must be 'token<TAB>tag' \(got 3 columns: 'a\\tNN\\tO'\)"),
            ("IMGID:1\n\tO\n", 2, r"must be 'token<TAB>tag' \(got 2 columns: '\\tO'\)"),
            ("IMGID:1\na\tB-DOG\n", 2, r"each tag must be one of O, B-MISC, .*OTHER for MISC \(got 'B-DOG' of 'a'\)"),
            ("IMGID:1\na\tO \n", 2, r"\(got 'O ' of 'a'\)"),
            ("IMGID:1\na\tB-MOTHER\n", 2, r"\(got 'B-MOTHER'"),
            ("\na\tO\n", 2, r"own 'IMGID:<id>' line, and have no blank line inside \(got 'a\\tO'\)"),
            ("IMGID:1\n\n", 1, r"\(the sentence has no tokens\)"),
            ("IMGID: \na\tO\n", 1, r"own 'IMGID:<id>' line, .* \(got 'IMGID: '\)"),
            (b"IMGID:1\na\tO\n\xe9t\xe9\tO\n", 3, r"the line is not UTF-8 \(its byte 1 is 0xe9\)"),
            ("IMGID:1\na\0\tO\n", 2, r"the line is not text \(its character 2 is NUL, 0x00\)"),
        ],
    )
    def test_bad_lines(self, tmp_path, text, line, message):
        text = text if isinstance(text, bytes) else text.encode()
        skipped, after = self.read(tmp_path, text + b"\nIMGID:8\nb\tO\n")
        assert after == ("8", ["b"], ["O"])
        assert skipped.where == f"train.txt:{line}" and re.search(message, str(skipped.problem))

    def test_a_bad_line_costs_its_sentence(self, tmp_path):
        found = self.read(tmp_path, "IMGID:1\na\tO\n\nIMGID:2\na\tX\nb\tY\nIMGID:3\n\nIMGID:4\na\tO\n\nb\tO\n")
        skipped = [getattr(row, "where", None) for row in found]
        assert skipped == [None, "train.txt:5", "train.txt:7", None, "train.txt:12"]

    def test_another_encoding(self, tmp_path):
        with pytest.raises(ValueError, match=r"train\.txt: expected UTF-8, got UTF-16; save the file as UTF-8\."):
            self.read(tmp_path, "IMGID:1\na\tO\n".encode("utf-16"))

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_whatever_is_written_reads_back(self, tmp_path_factory, data):
        # All characters but the format's own: str.splitlines() breaks at U+2028, U+0085, \x0b, \x1c and others.
        token = st.text(st.characters(exclude_characters="\t\n\0", exclude_categories=["Cs"]), min_size=1)
        odd = st.sampled_from(["\u2028", "\x85", "\x0b", "\x1c", "\ufe0f", "\u200d", "\xa0", "\u3000", "\ufeff", "\r"])
        words = st.lists(st.tuples(token | odd, st.sampled_from(TWITTER_TAGS)), min_size=1)
        sentences = data.draw(st.lists(st.tuples(st.text("09az_", min_size=1), words), max_size=5))
        end = data.draw(st.sampled_from(["\n", "\r\n"]))
        blocks = [
            end.join([f"IMGID:{image_id}", *(f"{word}\t{tag}" for word, tag in words)])
            for image_id, words in sentences
        ]
        path = tmp_path_factory.getbasetemp() / "hypothesis.txt"
        path.write_bytes((end * 2).join(blocks).encode(data.draw(st.sampled_from(["utf-8", "utf-8-sig"]))))
        expected = [(image_id, [list(column) for column in zip(*words, strict=True)]) for image_id, words in sentences]
        assert [(row.image_id, [row.tokens, row.tags]) for row in read_sentences(str(path))] == expected


class TestBuilder:
    @pytest.mark.parametrize("name", ["twitter2015", "twitter2017"])
    def test_rows(self, archive, make_archive, tmp_path, name):
        dataset, report = make_archive(tmp_path / "data", name).prepare()
        assert list(dataset) == list(SPLITS)
        row = dataset["validation"][0]
        assert list(row) == ["id", "image_id", "tokens", "ner_tags", "image", "aux_crops", "rcnn_crops"]
        assert (row["id"], row["image_id"], row["tokens"]) == ("validation-0", "val_1", ["Paris", "!"])
        assert row["ner_tags"] == [TWITTER_TAGS.index("B-LOC"), 0]
        assert [archive.reds(dataset[split][0]) for split in SPLITS] == [(i, [100 + i], [200 + i]) for i in range(3)]
        assert not report.absent and not report.notes
        assert archive.counts(report) == {"rows": 1, "images": 1, "aux_crops": 1, "rcnn_crops": 1}

    def test_features(self, archive):
        assert archive.prepare()[0]["train"].features == datasets.Features(
            {
                "id": datasets.Value("string"),
                "image_id": datasets.Value("string"),
                "tokens": datasets.List(datasets.Value("string")),
                "ner_tags": datasets.List(datasets.ClassLabel(names=TWITTER_TAGS)),
                "image": datasets.Image(),
                "aux_crops": datasets.List(datasets.Image()),
                "rcnn_crops": datasets.List(datasets.Image()),
            }
        )

    def test_text_only(self, archive):
        for path in archive.root.iterdir():
            if path.suffix != ".txt":
                path.unlink() if path.is_file() else shutil.rmtree(path)
        dataset, report = archive.prepare()
        assert archive.reds(dataset["train"][0]) == (None, [], [])
        assert report.notes == [
            "There is no images folder at twitter2017_images, so that no row has a picture or a crop."
        ]
        assert not report.absent

    def test_parts_that_are_absent_as_a_whole(self, archive):
        shutil.rmtree(archive.root / "twitter2017_images")
        (archive.root / "twitter2017_val_dict.pth").unlink()
        shutil.rmtree(archive.root / "twitter17_detect")
        dataset, report = archive.prepare()
        assert [archive.reds(dataset[split][0]) for split in SPLITS] == [
            (None, [100], []),
            (None, [], []),
            (None, [102], []),
        ]
        assert [note.split(" at ")[0] for note in report.notes] == [
            "There is no images folder",
            "There is no list of aux crops",
            "There is no list of rcnn crops",
        ]
        assert "at twitter2017_val_dict.pth," in report.notes[1]
        assert not any(str(archive.root) in note for note in report.notes), "a card publishes them"

    @pytest.mark.parametrize("folder", ["twitter2017_images", "twitter2017_aux_images", "twitter17_detect"])
    def test_folders_of_pictures_beside_the_texts(self, archive, folder):
        data, _ = archive.prepare()
        before = [archive.reds(data[split][0]) for split in SPLITS]
        if folder == "twitter17_detect":  # Its list is in it.
            (archive.root / folder / "twitter17_img2crop.pth").rename(archive.root / "twitter17_img2crop.pth")
        cache = archive.builder().cache_dir
        (archive.root / folder).rename(archive.root.parent / folder)
        assert archive.builder().cache_dir != cache
        dataset, report = archive.prepare()
        assert [archive.reds(dataset[split][0]) for split in SPLITS] == before
        assert not report.notes and not report.absent

    def test_every_crop_is_missing(self, archive):
        archive.write("train", archive.sentence("train_1"), archive.sentence("train_2"))
        archive.save("twitter2017_train_dict.pth", {f"train_{i}.jpg": [f"{i}.png"] for i in (1, 2)})
        with pytest.raises(FileNotFoundError) as error:
            archive.prepare()
        where = f"{archive.root}, train: Every picture that the rows name in aux_crops is missing (2); looked in "
        assert f"{where}{archive.aux_crops('train')}. The first one is train-0: " in str(error.value)
        assert "Put the folders of pictures into the archive's folder or beside it" in str(error.value)
        assert archive.prepare(num_aux_crops=0)[1].splits["train"].counts["crops_surplus"] == 2

    @pytest.mark.parametrize("name", ["dev.txt", "val.txt"])
    def test_other_names_of_the_validation_split(self, archive, name):
        (archive.root / "valid.txt").rename(archive.root / name)
        assert len(archive.prepare()[0]["validation"]) == 1

    @pytest.mark.parametrize("place", ["twitter17_img2crop.pth", "twitter2017_img2crop.pth"])
    def test_other_places_of_the_list_of_rcnn_crops(self, archive, place):
        (archive.root / "twitter17_detect" / "twitter17_img2crop.pth").rename(archive.root / place)
        dataset, report = archive.prepare()
        assert archive.reds(dataset["train"][0]) == (0, [100], [200])
        assert not report.notes

    def test_absent_pictures(self, archive):
        archive.write("train", *(archive.sentence(f"train_{i}") for i in (1, 2, 3, 3)))
        archive.image("train_3").write_bytes(b"<html>404</html>")
        archive.save(
            "twitter2017_train_dict.pth",
            {"train_1.jpg": ["gone.png", "train_1_aux.png"], "train_2.jpg": ["train_1_aux.png"], "train_3.jpg": []},
        )
        archive.rcnn["train_1"].insert(0, "twitter17_detect/train/crops/empty.jpg")
        (archive.root / archive.rcnn["train_1"][0]).touch()
        archive.save_rcnn()
        dataset, report = archive.prepare(verify_pictures=True)

        assert [archive.reds(row) for row in dataset["train"]] == [
            (0, [100], [200]),
            (None, [100], []),
            (None, [], []),
            (None, [], []),
        ]
        assert archive.counts(report) == {
            "rows": 4,
            "images": 1,
            "aux_crops": 2,
            "rcnn_crops": 1,
            "rows_without_image": 3,
            "rows_without_aux_crops": 2,
            "rows_without_rcnn_crops": 3,
            "images_missing": 1,
            "images_unreadable": 2,
            "crops_missing": 1,
            "crops_unreadable": 1,
        }
        assert sorted((*picture[:2], str(picture.problem)) for picture in report.absent) == [
            ("train-0", "twitter17_detect/train/crops/empty.jpg", f"rcnn_crops 0: {EMPTY}"),
            ("train-0", "twitter2017_aux_images/train/crops/gone.png", f"aux_crops 0: {NO_SUCH_FILE}"),
            ("train-1", "twitter2017_images/train_2.jpg", f"image: {NO_SUCH_FILE}"),
            ("train-2", "twitter2017_images/train_3.jpg", f"image: {UNKNOWN_FORMAT}"),
            ("train-3", "twitter2017_images/train_3.jpg", f"image: {UNKNOWN_FORMAT}"),
        ]
        assert "train-1: image: twitter2017_images/train_2.jpg: there is no such file" in str(report)
        assert "1 images missing, 2 images unreadable" in str(report)

    def test_the_stand_in_picture_is_never_used(self, archive):
        archive.save_picture(archive.image("train_1").with_name("inf.png"), 50)
        archive.write("train", *map(archive.sentence, ("inf", "train_9", "train_1")))
        dataset, report = archive.prepare()
        assert dataset["train"]["image"][:2] == [None, None]
        assert archive.counts(report)["images_missing"] == 2

    def test_names_that_lead_out_of_their_folder(self, archive, tmp_path):
        outside = tmp_path / "outside.jpg"
        archive.save_picture(outside, 50)
        archive.write("train", archive.sentence("../../outside"), archive.sentence("train_1"))
        archive.save(
            "twitter2017_train_dict.pth",
            {"train_1.jpg": [str(outside), "../../val/crops/val_1_aux.png", "./a/../train_1_aux.png"]},
        )
        archive.rcnn["train_1"] = [
            "../outside.jpg",
            "twitter2017_images/train_1.jpg",
            "twitter17_detect/../../outside.jpg",
        ]
        archive.save_rcnn()
        dataset, report = archive.prepare()
        assert [archive.reds(row) for row in dataset["train"]] == [(None, [], []), (0, [100], [])]
        assert archive.counts(report)["images_outside"] == 1
        assert archive.counts(report)["crops_outside"] == 5
        assert report.absent[0][:2] == ("train-0", "../../outside.jpg")
        assert {picture.problem.kind for picture in report.absent} == {
            "the path leads out of the folder of the pictures"
        }
        assert [picture.problem.details for picture in report.absent] == [
            "(twitter2017_images)",
            *["(crops)"] * 2,
            *["(twitter17_detect)"] * 3,
        ]

    def test_linked_pictures_are_followed(self, archive, tmp_path):
        # So does the Hub's cache keep files.
        blob = archive.image("train_1").rename(tmp_path / "blob")
        archive.image("train_1").symlink_to(blob)
        assert archive.reds(archive.prepare()[0]["train"][0])[0] == 0

    def test_an_image_id_with_dots(self, archive):
        # The published code looks rcnn crops up by the id's part before the first dot.
        archive.write("train", archive.sentence("train_1.v2"))
        archive.save_picture(archive.image("train_1.v2"), 50)
        archive.save("twitter2017_train_dict.pth", {"train_1.v2.jpg": ["train_1_aux.png"]})
        assert archive.reds(archive.prepare()[0]["train"][0]) == (50, [100], [200])

    def test_more_crops_than_asked_for(self, archive):
        names = [f"{i}.png" for i in range(5)]
        for i, name in enumerate(names):
            archive.save_picture(archive.aux_crops("train") / name, i)
        archive.save("twitter2017_train_dict.pth", {"train_1.jpg": names})
        dataset, report = archive.prepare()
        assert archive.reds(dataset["train"][0])[1] == [0, 1, 2]
        assert archive.counts(report)["crops_surplus"] == 2

        # An absent one of the first is not made up for by a later one.
        (archive.aux_crops("train") / names[1]).unlink()
        assert archive.reds(archive.prepare()[0]["train"][0])[1] == [0, 2]
        assert archive.reds(archive.prepare(num_aux_crops=4)[0]["train"][0])[1] == [0, 2, 3]
        dataset, report = archive.prepare(num_aux_crops=0, num_rcnn_crops=0)
        assert archive.reds(dataset["train"][0]) == (0, [], [])
        assert archive.counts(report)["crops_surplus"] == 6

    def test_errors_in_the_files_come_as_they_are(self, archive):
        (archive.root / "valid.txt").write_text("IMGID:1\na O\n")
        for read in (TwitterMNER.download_and_prepare, TwitterMNER.as_streaming_dataset):
            with pytest.raises(ValueError, match=r"valid\.txt: none of its 1 rows can be used:\nvalid\.txt:2: "):
                read(archive.builder())

    def test_parquet_stands_without_the_archive(self, archive, tmp_path):
        archive.image("val_1").unlink()
        builder = archive.builder()
        builder.download_and_prepare(str(tmp_path / "out"), file_format="parquet")
        assert archive.counts(builder.report, "validation")["images_missing"] == 1
        shutil.rmtree(archive.root)
        dataset = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "other_cache"))
        assert [archive.reds(dataset[split][0]) for split in SPLITS] == [
            (0, [100], [200]),
            (None, [101], [201]),
            (2, [102], [202]),
        ]


@needs_shared
class TestRealData:
    @pytest.mark.parametrize(
        ("name", "sizes", "stray_tags"),
        [("twitter2015", (4000, 1000, 3257), 374), ("twitter2017", (3373, 723, 723), 0)],
    )
    def test_text(self, name, sizes, stray_tags, tmp_path):
        builder = TwitterMNER(config_name=name, data_dir=SHARED / "data", cache_dir=tmp_path)
        builder.download_and_prepare()
        dataset = builder.as_dataset()
        assert tuple(dataset[split].num_rows for split in SPLITS) == sizes
        assert builder.report.notes and not builder.report.absent
        assert all(len(set(dataset[split]["id"])) == size for split, size in zip(SPLITS, sizes, strict=True))
        last = {split: dataset[split][-1] for split in SPLITS}
        for split, text_file in zip(SPLITS, ("train", "valid", "test"), strict=True):
            lines = (SHARED / "data" / name / f"{text_file}.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
            assert lines[-1].split("\t")[0] == last[split]["tokens"][-1]
            assert sum("\t" in line for line in lines) == sum(map(len, dataset[split]["tokens"]))
        assert sum(self.stray_tags(tags) for split in SPLITS for tags in dataset[split]["ner_tags"]) == stray_tags

    @staticmethod
    def stray_tags(tag_ids: list[int]) -> int:
        """`I-` tags that do not continue an entity of their type."""
        tags = [TWITTER_TAGS[tag_id] for tag_id in tag_ids]
        pairs = itertools.pairwise(["O", *tags])
        return sum(tag.startswith("I-") and before[1:] != tag[1:] for before, tag in pairs)

    @pytest.mark.parametrize(
        ("name", "aux_crops", "rcnn_crops"),
        [
            ("twitter2015", {"train": 10, "validation": 7, "test": 7}, {"train": 11, "validation": 10, "test": 6}),
            ("twitter2017", dict.fromkeys(SPLITS, 7), dict.fromkeys(SPLITS, 6)),
        ],
    )
    def test_sample(self, name, aux_crops, rcnn_crops, tmp_path):
        builder = TwitterMNER(config_name=name, data_dir=SHARED / "data" / "sample" / name, cache_dir=tmp_path)
        builder.download_and_prepare()
        dataset = builder.as_dataset()
        assert not builder.report.absent and not builder.report.notes
        for split in SPLITS:
            split_counts = builder.report.splits[split].counts
            assert split_counts["rows"] == split_counts["images"] == dataset[split].num_rows == 5
            assert split_counts["aux_crops"] == sum(map(len, dataset[split]["aux_crops"])) == aux_crops[split]
            assert split_counts["rcnn_crops"] == sum(map(len, dataset[split]["rcnn_crops"])) == rcnn_crops[split]
            for row in dataset[split].cast_column("image", datasets.Image(decode=False)):
                assert Path(row["image"]["path"]).name == f"{row['image_id']}.jpg"
        rows = [row for split in SPLITS for row in dataset[split]]
        assert any(not row["aux_crops"] for row in rows) and any(not row["rcnn_crops"] for row in rows)

    def test_a_png_that_is_called_jpg(self, tmp_path):
        found = []
        for name in ("twitter2015", "twitter2017"):
            builder = TwitterMNER(config_name=name, data_dir=SHARED / "data" / "sample", cache_dir=tmp_path)
            for stream in builder.as_streaming_dataset().values():
                images = [row["image"] for row in stream.cast_column("image", datasets.Image(decode=False))]
                found += [(Image.open(image["path"]), image) for image in images]
        assert len(found) == 30
        assert sorted(image.mode for image, _ in found if image.format == "PNG") == ["RGB", "RGBA"]
        (rgba, source) = next(pair for pair in found if pair[0].mode == "RGBA")
        assert np.array_equal(np.asarray(load_image(source)), np.asarray(rgba)[..., :3])
