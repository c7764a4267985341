import collections
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from processing.data.mnre import MNRE, MNRE_RELATIONS, NO_RELATION, read_relation_rows


def line(image_id="a.jpg", relation="/per/loc/place_of_birth", **values):
    row = {
        "token": ["Jordan", "lives", "in", "Paris"],
        "h": {"name": "Jordan", "pos": [0, 1]},
        "t": {"name": "Paris", "pos": [3, 4]},
        "img_id": image_id,
        "relation": relation,
    }
    return repr({**row, **values})


def save_picture(path: Path, red: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 7), (red, 0, 0)).save(path, format="PNG")


@pytest.fixture
def archive(tmp_path) -> Path:
    """Three training rows of two pictures, with crops; a row in each other split."""
    root = tmp_path / "mnre"
    (root / "txt").mkdir(parents=True)
    lines = {"train": [line("a.jpg"), line("b.x.jpg", NO_RELATION), line("a.jpg")], "val": [line()], "test": [line()]}
    for split, rows in lines.items():
        (root / "txt" / f"ours_{split}.txt").write_text("\n".join(rows), encoding="utf-8")
    save_picture(root / "img_org" / "train" / "a.jpg", 1)
    save_picture(root / "img_org" / "train" / "b.x.jpg", 2)
    for name, red in (("1.jpg", 11), ("2.jpg", 12)):
        save_picture(root / "img_vg" / "train" / "crops" / name, red)
    save_picture(root / "img_detect" / "train" / "crops" / "c.jpg", 21)
    torch.save({0: ["1.jpg", "2.jpg"], 2: ["2.jpg"]}, root / "txt" / "mre_train_dict.pth")
    torch.save({"b": ["img_detect/train/crops/c.jpg"]}, root / "img_detect" / "train" / "train_img2crop.pth")
    return root


def prepare(root: Path, **kwargs):
    builder = MNRE(data_dir=root, cache_dir=str(root.parent / "cache"), **kwargs)
    builder.download_and_prepare()
    return builder.as_dataset(), builder.report


def red(picture):
    return None if picture is None else picture.convert("RGB").getpixel((0, 0))[0]


class TestReadRelationRows:
    def read(self, tmp_path, data: str | bytes):
        path = tmp_path / "ours.txt"
        path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
        return list(read_relation_rows(str(path)))

    def test_rows(self, tmp_path):
        rows = self.read(tmp_path, f"\ufeff{line()}\r\n\n{line(relation=NO_RELATION)}")
        relations = [MNRE_RELATIONS[row.columns["relation"]] for row in rows]
        assert relations == ["/per/loc/place_of_birth", NO_RELATION]
        assert rows[0].columns["head"] == {"name": "Jordan", "start": 0, "end": 1}
        assert rows[0].columns["tail"] == {"name": "Paris", "start": 3, "end": 4}

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            ("__import__('os').mkdir('was_run')", "the line must be a Python dict of plain values"),
            ("{'token': [", "the line must be a Python dict of plain values"),
            ("{[]: 1}", "the line must be a Python dict of plain values"),
            ("1" * 5000, "the line must be a Python dict of plain values"),
            ("(" * 100_000, "the line must be a Python dict of plain values"),
            ("[" + "1," * (1 << 20) + "]", "the line must be a Python dict of plain values"),
            ("[1]", r"the line must be a dict with the keys token, h, t, img_id, relation \(got '\[1\]'\)"),
            ("0x" + "f" * 10_000, "the line must be a dict with the keys"),
            ("{'token': ['a']}", r"the line must be a dict with the keys .* \(got \"{'token': \['a'\]}\"\)"),
            (line(token=[]), "token: must be a list of words"),
            (line(token=["a", 1, "b", "c"]), "token: must be a list of words"),
            (line(token=["\ud800"] * 4), "token: a text must be valid Unicode"),
            (line(h={1: 2}), "h: the keys of a dict must be text"),
            (line(h={"name": "Jordan", "pos": [0, 1 << 2000]}), "h: whole numbers must have at most 1,000 bits"),
            (line(image_id=""), "img_id: must be a name"),
            (line(relation=["None"]), "relation: must be a name"),
            (line(relation="/per/per/peeer"), r"relation: must be a known relation; .*\(got '/per/per/peeer'\)"),
            (
                line(h={"name": "Paris", "pos": [0, 1]}),
                r"h: the text that is given must be .* \('Paris' is given, 0 to 1 is 'Jordan'\)",
            ),
            (line(h={"name": "Jordan", "pos": [1, 1]}), "h: must be a dict of a name and a pos"),
            (line(t={"name": "Paris", "pos": [3, 5]}), "t: must be a dict of a name and a pos"),
            (line(t={"name": "Paris"}), "t: must be a dict of a name and a pos"),
            (line(h=None), "h: must be a dict of a name and a pos"),
            (line(token=["é"] * 4).encode("latin-1"), r"the line is not UTF-8 \(its byte 13 is 0xe9\)"),
            (b"x" * (17 << 20), "the line is too long"),
        ],
    )
    def test_bad_lines(self, tmp_path, monkeypatch, bad, message):
        monkeypatch.chdir(tmp_path)
        bad = bad if isinstance(bad, bytes) else bad.encode("utf-8")
        first, skipped, last = self.read(tmp_path, line().encode() + b"\n" + bad + b"\n" + line().encode())
        assert first == last and skipped.where == "ours.txt:2"
        assert re.match(message, str(skipped.problem))
        assert not Path("was_run").exists()

    @settings(max_examples=200, deadline=None)
    @given(data=st.one_of(st.binary(), st.text().map(str.encode)))
    def test_anything_gives_rows_or_a_clear_error(self, tmp_path_factory, data):
        try:
            rows = self.read(tmp_path_factory.mktemp("any"), data)
        except ValueError as error:
            assert "ours.txt:" in str(error) and "expected" in str(error)
        else:
            assert not rows or data.strip()


class TestBuilder:
    def test_rows(self, archive):
        data, report = prepare(archive)
        train = data["train"]
        assert train["id"] == ["train-0", "train-1", "train-2"]
        assert train[0]["head"] == {"name": "Jordan", "start": 0, "end": 1}
        assert train[0]["tail"] == {"name": "Paris", "start": 3, "end": 4}
        names = train.features["relation"].names
        assert names == list(MNRE_RELATIONS)
        assert [names[relation] for relation in train["relation"]] == [
            "/per/loc/place_of_birth",
            NO_RELATION,
            "/per/loc/place_of_birth",
        ]
        assert [red(picture) for picture in train["image"]] == [1, 2, 1]
        assert [[red(crop) for crop in crops] for crops in train["aux_crops"]] == [[11, 12], [], [12]]
        assert [[red(crop) for crop in crops] for crops in train["rcnn_crops"]] == [[], [21], []]
        # the published code reads the test split's pictures from the folder of the train split
        assert red(data["test"][0]["image"]) == 1
        assert report.splits["train"].counts["images"] == 3 and not report.absent

    def test_a_row_that_cannot_be_used_costs_no_other(self, archive):
        before, _ = prepare(archive)
        lines = (archive / "txt" / "ours_train.txt").read_text().splitlines()
        (archive / "txt" / "ours_train.txt").write_text("\n".join([lines[0], "{[]: 1}", lines[2]]))
        data, report = prepare(archive)
        assert data["train"]["id"] == ["train-0", "train-2"]
        assert data["train"]["aux_crops"][1][0].tobytes() == before["train"]["aux_crops"][2][0].tobytes()
        assert report.splits["train"].counts["rows_skipped"] == 1 and report.skipped[0].where == "ours_train.txt:2"
        (archive / "txt" / "ours_train.txt").write_text("\n\n")
        with pytest.raises(ValueError, match=r"ours_train\.txt: it holds no rows\."):
            prepare(archive)
        (archive / "txt" / "ours_train.txt").write_text("{[]: 1}\n")
        with pytest.raises(ValueError, match=r"ours_train\.txt: none of its 1 rows can be used:\nours_train\.txt:1: "):
            prepare(archive)

    def test_crops_listed_by_image(self, archive):
        torch.save({"b.x.jpg": ["1.jpg"]}, archive / "txt" / "mre_train_dict.pth")
        data, _ = prepare(archive)
        assert [[red(crop) for crop in crops] for crops in data["train"]["aux_crops"]] == [[], [11], []]

    def test_the_published_name_of_the_validation_list(self, archive):
        save_picture(archive / "img_vg" / "val" / "crops" / "v.jpg", 31)
        torch.save({0: ["v.jpg"]}, archive / "txt" / "mre_dev_dict.pth")
        data, report = prepare(archive)
        assert red(data["validation"][0]["aux_crops"][0]) == 31
        assert not any("mre_dev_dict" in note or "mre_val_dict" in note for note in report.notes)

    def test_an_archive_s_own_relation_ids(self, archive):
        ids = {NO_RELATION: 1, "/per/loc/place_of_birth": 0}  # in another order than that of the ids
        (archive / "ours_rel2id.json").write_text(json.dumps(ids))
        data, _ = prepare(archive)
        assert data["train"].features["relation"].names == ["/per/loc/place_of_birth", NO_RELATION]
        assert data["train"]["relation"] == [0, 1, 0]

    @pytest.mark.parametrize("ids", ["[1]", "{", '{"None": 1}', '{"None": 0, "/a": 0}', '{"None": "0"}'])
    def test_relation_ids_that_are_none(self, archive, ids):
        (archive / "ours_rel2id.json").write_text(ids)
        with pytest.raises(ValueError, match=r"ours_rel2id\.json: expected"):
            prepare(archive)

    def test_relation_ids_without_end(self, archive):
        (archive / "ours_rel2id.json").write_text("{" + " " * (1 << 20) + "}")
        with pytest.raises(ValueError, match=r"ours_rel2id\.json: .* it has more than 1,048,576 characters"):
            prepare(archive)

    def test_absent_pictures(self, archive, tmp_path):
        (archive / "img_org" / "train" / "a.jpg").unlink()
        (archive / "img_vg" / "train" / "crops" / "1.jpg").write_bytes(b"no picture")
        torch.save({"b": ["../outside.jpg"]}, archive / "img_detect" / "train" / "train_img2crop.pth")
        save_picture(tmp_path / "outside.jpg", 99)
        data, report = prepare(archive, verify_pictures=True)
        assert [red(picture) for picture in data["train"]["image"]] == [None, 2, None]
        assert [(picture.row_id, picture.path) for picture in report.absent if "train" in picture.row_id] == [
            ("train-0", "img_org/train/a.jpg"),
            ("train-0", "img_vg/train/crops/1.jpg"),
            ("train-1", "../outside.jpg"),
            ("train-2", "img_org/train/a.jpg"),
        ]
        counts = report.splits["train"].counts
        assert (counts["images_missing"], counts["crops_unreadable"], counts["crops_outside"]) == (2, 1, 1)

    def test_names_of_its_own_repository(self, archive):
        before, _ = prepare(archive)
        (archive / "txt").rename(archive / "mnre_txt")
        for split in ("train", "val", "test"):
            (archive / "mnre_txt" / f"ours_{split}.txt").rename(archive / "mnre_txt" / f"mnre_{split}.txt")
        data, _ = prepare(archive)
        assert {split: rows["tokens"][:] for split, rows in data.items()} == {
            split: rows["tokens"][:] for split, rows in before.items()
        }

    def test_fewer_crops(self, archive):
        data, report = prepare(archive, num_aux_crops=1)
        assert [len(crops) for crops in data["train"]["aux_crops"]] == [1, 0, 1]
        assert report.splits["train"].counts["crops_surplus"] == 1
        with pytest.raises(ValueError, match="num_aux_crops must be an int, 0 or more, got -1"):
            MNRE(data_dir=archive, num_aux_crops=-1)

    def test_changed_files_are_prepared_afresh(self, archive):
        prepare(archive)
        save_picture(archive / "img_org" / "train" / "a.jpg", 200)
        (archive / "txt" / "ours_val.txt").write_text(line(relation=NO_RELATION))
        data, _ = prepare(archive)
        assert red(data["train"][0]["image"]) == 200
        assert data["validation"]["relation"] == [0]

    def test_streaming_gives_the_same_rows(self, archive):
        prepared, _ = prepare(archive)
        builder = MNRE(data_dir=archive, cache_dir=str(archive.parent / "cache"))
        streamed = builder.as_streaming_dataset(split="train")
        for row, expected in zip(streamed, prepared["train"], strict=True):
            assert {name: row[name] for name in ("id", "tokens", "head", "relation")} == {
                name: expected[name] for name in ("id", "tokens", "head", "relation")
            }
            assert red(row["image"]) == red(expected["image"])

    def test_no_archive(self, archive):
        with pytest.raises(ValueError, match="data_dir is needed"):
            MNRE()
        shutil.rmtree(archive / "txt")
        with pytest.raises(FileNotFoundError, match=r"looked for ours_train\.txt, ours_val\.txt, ours_test\.txt"):
            MNRE(data_dir=archive)


def test_real_text(shared, tmp_path):
    builder = MNRE(data_dir=shared / "data" / "mnre", cache_dir=str(tmp_path))
    builder.download_and_prepare()
    data = builder.as_dataset()
    assert {split: len(rows) for split, rows in data.items()} == {"train": 12247, "validation": 1624, "test": 1614}
    relations = collections.Counter(relation for rows in data.values() for relation in rows["relation"])
    assert len(relations) == 23 and relations[0] == 9718
    rows = [row for split in data.values() for row in split.select_columns(["head", "tail"])]
    assert sum(row["tail"]["start"] < row["head"]["start"] for row in rows) == 1808
    overlapping = [row for row in rows if max(e["start"] for e in row.values()) < min(e["end"] for e in row.values())]
    assert len(overlapping) == 67
    assert builder.report.notes == ["There is no images folder at img_org, so that no row has a picture or a crop."]


def test_relation_ids_are_the_published_ones(shared):
    golden = json.loads((shared / "golden" / "re_inputs_mnre_val.json").read_text())
    assert {name: index for index, name in enumerate(MNRE_RELATIONS)} == golden["rel2id"]
