import csv
import errno
import json
import os
import re
import signal
import sys
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.data.own.file_mner import FileMNER
from processing.labels import decode_entities
from processing.rows.row_features import ner_features, with_context, with_texts


PARIS = {"text": "Paris!", "spans": [{"start": 0, "end": 5, "label": "LOC"}]}
JORDAN = {"tokens": ["Michael", "Jordan"], "ner_tags": ["B-PER", "I-PER"]}


class TestRows:
    def test_spans(self, folder):
        text = "so New York\u2019s \U0001f600 Paris!"
        spans = [{"start": 16, "end": 21, "label": "LOC"}, {"start": 3, "end": 11, "label": "LOC", "more": 1}]
        dataset, report = folder.write("train", {"id": 7, "image_id": "p", "text": text, "spans": spans}).prepare()
        assert dataset["train"].features == with_texts(ner_features(["O", "B-LOC", "I-LOC"]))
        assert list(dataset["train"]) == [
            {
                "id": "7",
                "image_id": "p",
                "tokens": ["so", "New", "York", "\u2019", "s", "\U0001f600", "Paris", "!"],
                "ner_tags": [0, 1, 2, 0, 0, 0, 1, 0],
                "image": None,
                "aux_crops": [],
                "rcnn_crops": [],
                "text": text,
                "offsets": [[0, 2], [3, 6], [7, 11], [11, 12], [12, 13], [14, 15], [16, 21], [21, 22]],
            }
        ]
        assert report.notes == ["tags made of character spans", "1 entity types, with entities in train: LOC 2"]
        assert not report.skipped and not report.moved

    def test_contexts(self, folder):
        given = [None, "a dog", ["a", {"kind": "ocr", "text": "OPEN"}], {"text": "b"}, 5, [{"label": "x"}], []]
        rows = [{**PARIS, **({} if context is None else {"context": context})} for context in given]
        dataset, report = folder.write("train", *rows).prepare()
        assert dataset["train"].features == with_context(with_texts(ner_features(["O", "B-LOC", "I-LOC"])))
        parts = [[(part["kind"], part["text"]) for part in row] for row in dataset["train"]["context"]]
        assert parts == [[], [(None, "a dog")], [(None, "a"), ("ocr", "OPEN")], [(None, "b")], []]
        assert [skipped.where for skipped in report.skipped] == ["train.jsonl:5", "train.jsonl:6"]
        assert "context 0: context is a text, or a list of texts" in str(report.skipped[1].problem)
        assert "3 rows have a context, which models with max_context_length read" in report.notes
        assert not any("not used" in note for note in report.notes)

    def test_contexts_of_parquet_and_of_pairs(self, folder):
        rows = [{**PARIS, "context": [{"kind": "caption", "text": "a dog"}]}, {**PARIS, "context": None}]
        folder.root.mkdir()
        pq.write_table(pa.Table.from_pylist(rows), folder.root / "train.parquet")
        dataset, _ = folder.prepare()
        assert dataset["train"]["context"][:] == [[{"kind": "caption", "text": "a dog"}], []]
        pair = {"text": "Jordan met Ana", "head": "Jordan", "tail": "Ana", "relation": "peer", "context": "a dog"}
        (folder.root / "train.parquet").unlink()
        dataset, _ = folder.write("train", pair).prepare()
        assert dataset["train"]["context"][:] == [[{"kind": None, "text": "a dog"}]]

    def test_tags(self, folder):
        rows = JORDAN, {"tokens": ["a b", "c"], "ner_tags": ["O", "B-LOC"], "text": "not read", "spans": 5}
        dataset, report = folder.write("train", *rows).prepare()
        assert dataset["train"]["id"][:] == ["train-0", "train-1"]
        assert dataset["train"]["tokens"][:] == [["Michael", "Jordan"], ["a b", "c"]]
        assert dataset["train"].features["ner_tags"].feature.names == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
        assert dataset["train"]["ner_tags"][:] == [[3, 4], [0, 1]]
        assert report.splits["train"].counts["rows"] == 2

    def test_entities_is_another_name_of_spans(self, folder, tags_of):
        dataset, _ = folder.write("train", {"text": "Paris!", "entities": PARIS["spans"]}).prepare()
        assert tags_of(dataset["train"]) == [["B-LOC", "O"]]

    def test_spans_that_are_moved(self, folder, tags_of):
        text = "New York-based  Paris!"
        rows = [
            {
                "text": text,
                "spans": [{"start": 0, "end": 7, "label": "LOC"}, {"start": 15, "end": 21, "label": "LOC"}],
            },
            {"text": "#GoLakers now", "spans": [{"start": 1, "end": 9, "label": "ORG"}]},
        ]
        dataset, report = folder.write("train", *rows).prepare()
        assert tags_of(dataset["train"]) == [
            ["B-LOC", "I-LOC", "O", "O", "B-LOC", "O"],
            ["B-ORG", "O"],
        ]
        assert report.moved == [
            ("train.jsonl:1", "New Yor", "New York"),
            ("train.jsonl:1", " Paris", "Paris"),
            ("train.jsonl:2", "GoLakers", "#GoLakers"),
        ]
        assert report.splits["train"].counts["spans_moved"] == 3
        assert "train.jsonl:1: 'New Yor' became 'New York'" in str(report)

    def test_a_span_that_leaves_out_more_than_an_ending_is_not_learnt(self, folder):
        """Its words would be another name: the row is skipped, with its line."""
        texts = {"Osloer saw it": 4, "Oslofjord saw it": 4, "@oslo_no_1": 5, "서울에서는": 2}
        rows = [{"text": text, "spans": [{"start": 0, "end": end, "label": "LOC"}]} for text, end in texts.items()]
        dataset, report = folder.write("train", *rows).prepare()
        assert dataset["train"]["text"][:] == ["Osloer saw it", "서울에서는"]
        assert [span.words for span in report.moved] == ["Osloer", "서울에서는"]
        assert report.splits["train"].counts["rows_skipped"] == 2
        reason = "spans: each must be whole words, but for signs in front and an ending of at most 3 characters"
        assert f"train.jsonl:2: skipped: {reason} (got 'Oslo' of 'Oslofjord')" in str(report).splitlines()
        assert f"train.jsonl:3: skipped: {reason} (got '@oslo' of '@oslo_no_1')" in str(report).splitlines()

    def test_words_beside_texts_keep_none(self, folder):
        """Rows of words have no text where others have one, and what was prepared reads back as it is."""
        dataset, _ = folder.write("train", PARIS, JORDAN).prepare()
        assert dataset["train"]["text"][:] == ["Paris!", None]
        assert dataset["train"]["offsets"][:] == [[[0, 5], [5, 6]], []]
        saved = folder.root.with_name("saved")
        dataset.save_to_disk(saved)
        again, _ = folder.prepare(data_dir=saved)
        assert again["train"].features == dataset["train"].features and again["train"][:] == dataset["train"][:]
        wrong = {**JORDAN, "text": "Michael J.", "offsets": [[0, 7], [8, 9]]}
        _, report = folder.write("train", PARIS, wrong).prepare()
        assert "train.jsonl:2: skipped: offsets: must be the start and end of each of the tokens" in str(report)

    def test_word_splitter(self, folder):
        folder.write("train", {"text": "Ana🔥 @bo", "spans": []})
        for splitter, words in {"unicode": ["Ana", "🔥", "@bo"], "bert": ["Ana🔥", "@", "bo"]}.items():
            dataset, _ = folder.prepare(word_splitter=splitter)
            assert dataset["train"]["tokens"][:] == [words]
        with pytest.raises(ValueError, match="word_splitter must be one of unicode, bert, got 'x'"):
            folder.builder(word_splitter="x")

    @pytest.mark.parametrize("case", ["03-emoji-glued-to-a-name", "04-languages-without-spaces"])
    def test_texts_that_people_bring(self, shared, tmp_path, tags_of, case):
        path = shared / "cases" / case / "train.jsonl"
        if not path.exists():
            pytest.skip(f"{path} is not there")
        builder = FileMNER(data_dir=path, cache_dir=str(tmp_path / "cache"))
        builder.download_and_prepare()
        rows = builder.as_dataset("train")
        given = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert rows["text"][:] == [row["text"] for row in given]
        assert not builder.report.moved and not builder.report.skipped
        for row, tags, of_row in zip(rows, tags_of(rows), given, strict=True):
            entities = decode_entities(row["text"], row["offsets"], tags)
            found = [{"start": e["start"], "end": e["end"], "label": e["entity_group"]} for e in entities]
            assert found == of_row["spans"]

    def test_the_text_names_the_file_with_all_of_the_report(self, folder):
        row = {"text": "#GoLakers now", "spans": [{"start": 1, "end": 9, "label": "ORG"}]}
        builder = folder.write("train", *[row] * 25).builder()
        builder.download_and_prepare()
        for report in (builder.report, folder.builder().report):
            text = str(report)
            path = re.search(r"^and 5 more, all of them in (/.*), `moved`$", text, re.MULTILINE)[1]
            assert len(json.loads(Path(path).read_text(encoding="utf-8"))["splits"]["train"]["moved"]) == 25
        streaming = folder.builder(num_aux_crops=1)  # prepared nowhere
        list(streaming.as_streaming_dataset("train"))
        assert str(streaming.report).endswith("\nand 5 more")

    def test_rows_that_are_lost_with_their_pictures(self, folder):
        """The survey reads no pictures, and finds nothing wrong with these rows."""
        too_late = pa.array([2**62], pa.timestamp("us"))  # which Python cannot hold
        columns = {"tokens": [["Ana"]], "ner_tags": [["B-PER"]], "image": too_late}
        folder.root.mkdir(exist_ok=True)
        pq.write_table(pa.table(columns), folder.root / "train.parquet")
        with pytest.raises(ValueError, match=r"none of the 1 rows of the train split can be used"):
            folder.prepare()


WORDS = st.lists(st.text("abÀ中\u2028\xa0'\"\\", min_size=1), min_size=1, max_size=6)


class TestFormats:
    """The same sentences in every format."""

    @settings(deadline=None, max_examples=10)
    @given(st.lists(WORDS, min_size=1, max_size=3), st.data())
    def test_what_is_written_reads_back(self, tmp_path_factory, write_rows, sentences, data):
        place = tmp_path_factory.mktemp("formats")
        tags = [
            data.draw(st.lists(st.sampled_from(["O", "B-LOC", "B-PER"]), min_size=len(words), max_size=len(words)))
            for words in sentences
        ]
        rows = [{"tokens": words, "ner_tags": labels} for words, labels in zip(sentences, tags, strict=True)]
        write_rows(place / "x.jsonl", rows)
        with open(place / "x.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(
                [["tokens", "ner_tags"], *([" ".join(v) for v in row.values()] for row in rows)]
            )
        pq.write_table(pa.Table.from_pylist(rows), place / "x.parquet")
        for ending in ("jsonl", "csv", "parquet"):
            builder = FileMNER(data_dir=place / f"x.{ending}", cache_dir=str(place / "cache"), strict=True)
            read = list(builder.as_streaming_dataset("train"))
            names = builder.info.features["ner_tags"].feature.names
            assert [row["tokens"] for row in read] == sentences
            assert [[names[tag] for tag in row["ner_tags"]] for row in read] == tags

    def test_csv_spans(self, tmp_path):
        with open(tmp_path / "train.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "entities", "lang"])
            writer.writerow(["so,\nParis", json.dumps([{"start": 4, "end": 9, "label": "LOC"}]), "en"])
            writer.writerow(["Paris", "[", "en"])
            writer.writerow(["Paris", "", "en"])
        builder = FileMNER(data_dir=tmp_path, cache_dir=str(tmp_path / "cache"))
        builder.download_and_prepare()
        assert builder.as_dataset("train")["tokens"][:] == [["so", ",", "Paris"]]
        assert [row.where for row in builder.report.skipped] == ["train.csv:4", "train.csv:5"]
        assert "columns that are not used: lang" in builder.report.notes

    @pytest.mark.parametrize("saved", ["parquet", "folder", "disk"])
    def test_class_labels_keep_their_ids(self, tmp_path, saved):
        names = ["O", "B-PER", "B-LOC", "I-LOC", "I-PER"]
        dataset = datasets.Dataset.from_dict(
            {"id": ["a"], "tokens": [["x", "y"]], "ner_tags": [[2, 3]]},
            features=datasets.Features(
                {
                    "id": datasets.Value("string"),
                    "tokens": datasets.List(datasets.Value("string")),
                    "ner_tags": datasets.List(datasets.ClassLabel(names=names)),
                }
            ),
        )
        root = tmp_path / "mine"
        if saved == "disk":
            datasets.DatasetDict({"train": dataset, "test": dataset}).save_to_disk(root)
        else:
            (root / "data").mkdir(parents=True)
            for split in ("train", "test"):
                name = f"{split}-00000-of-00001.parquet" if saved == "folder" else f"{split}.parquet"
                dataset.to_parquet(root / ("data" if saved == "folder" else "") / name)
        builder = FileMNER(data_dir=root, cache_dir=str(tmp_path / "cache"))
        builder.download_and_prepare()
        read = builder.as_dataset()
        assert list(read) == ["train", "test"]
        assert read["test"].features["ner_tags"].feature.names == names
        assert read["test"][0]["ner_tags"] == [2, 3]

    def test_class_labels_of_another_scheme(self, tmp_path, tags_of):
        names = ["S-PER", "O", "B-PER", "E-PER", "I-PER", "S-LOC", "none"]
        features = datasets.Features(
            {
                "tokens": datasets.List(datasets.Value("string")),
                "ner_tags": datasets.List(datasets.ClassLabel(names=names)),
            }
        )
        rows = {"tokens": [["x", "y", "z"], ["x"], ["x"]], "ner_tags": [[2, 3, 5], [6], [0]]}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "x.parquet")
        builder = FileMNER(data_dir=tmp_path / "x.parquet", cache_dir=str(tmp_path / "cache"))
        builder.download_and_prepare()
        read = builder.as_dataset("train")
        assert read.features["ner_tags"].feature.names == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
        assert tags_of(read) == [["B-PER", "I-PER", "B-LOC"], ["B-PER"]]
        assert builder.report.skipped[0].where == "x.parquet, row 1"
        assert "got 'none'" in builder.report.skipped[0].problem.details

    def test_spans_as_datasets_stores_them(self, tmp_path):
        label = datasets.ClassLabel(names=["PER", "LOC"])
        number = datasets.Value("int32")
        features = datasets.Features(
            {"text": datasets.Value("string"), "spans": {k: datasets.List(number) for k in ("start", "end")}}
        )
        features["spans"]["label"] = datasets.List(label)
        rows = {"text": ["Paris!"], "spans": [{"start": [0], "end": [5], "label": [1]}]}
        datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "a")
        features = datasets.Features(
            {"text": features["text"], "spans": datasets.List({"start": number, "end": number, "label": label})}
        )
        rows["spans"] = [[{"start": 0, "end": 5, "label": 1}]]
        datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "b")
        for name in "ab":
            builder = FileMNER(data_dir=tmp_path / name, cache_dir=str(tmp_path / "cache"))
            builder.download_and_prepare()
            assert builder.as_dataset("train")["ner_tags"][:] == [[3, 0]]

    def test_prepared_data_are_read_again(self, folder, tmp_path):
        # As Parquet for the Hub, and as save_to_disk: pictures are inside.
        folder.save_picture("a.png", 50)
        row = {**JORDAN, "image": "a.png", "rcnn_crops": ["a.png"]}
        folder.write("train", row, PARIS).write("test", row)
        folder.builder().download_and_prepare(str(tmp_path / "out"), file_format="parquet")
        dataset, report = folder.prepare()
        assert not report.absent
        dataset.save_to_disk(tmp_path / "disk")
        (folder.root / "a.png").unlink()
        for place in ("out", "disk"):
            builder = FileMNER(data_dir=tmp_path / place, cache_dir=str(folder.cache))
            builder.download_and_prepare()
            assert not builder.report.absent and not builder.report.skipped
            read = builder.as_dataset()
            assert read["train"].features == dataset["train"].features
            assert read["test"][0]["rcnn_crops"][0].getpixel((0, 0)) == (50, 0, 0)
            for split in read:
                columns = ["id", "tokens", "ner_tags"]
                assert read[split].select_columns(columns)[:] == dataset[split].select_columns(columns)[:]


class TestCache:
    def test_the_same_files_are_prepared_once(self, folder, monkeypatch):
        folder.write("train", PARIS).prepare()
        monkeypatch.setattr(FileMNER, "_generate_examples", None)
        builder = folder.builder()
        builder.download_and_prepare()
        assert builder.report.splits["train"].counts["rows"] == 1
        assert builder.info.features == with_texts(ner_features(["O", "B-LOC", "I-LOC"]))

    def test_changed_while_it_is_read(self, folder):
        folder.write("train", PARIS, JORDAN)
        stream = folder.builder().as_streaming_dataset("train")
        folder.write("train", PARIS)
        with pytest.raises(RuntimeError, match=r"mine was changed while it was read; load it again"):
            list(stream)
        folder.write("train", PARIS, {"tokens": ["a"], "ner_tags": ["B-NEW"]})
        with pytest.raises(RuntimeError, match=r"mine was changed while it was read"):
            list(stream)

    def test_streaming(self, folder):
        folder.write("train", PARIS, "{", JORDAN)
        builder = folder.builder()
        stream = builder.as_streaming_dataset("train")
        assert list(stream) == list(stream) == list(folder.prepare()[0]["train"])
        assert builder.report == folder.builder().report
        assert builder.report.splits["train"].counts["rows_skipped"] == 1


class TestArguments:
    def test_data_dir(self):
        with pytest.raises(ValueError, match="data_dir is needed: pass a file, or the folder"):
            FileMNER()

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"tag_scheme": "BIO"}, r"tag_scheme must be one of \('IOB2', .*got 'BIO'"),
            ({"entity_types": "PER"}, r"entity_types must be distinct names, such as \['PER', 'LOC'\], got 'PER'"),
            ({"entity_types": []}, "entity_types must be distinct names"),
            ({"entity_types": ["PER", "PER"]}, "entity_types must be distinct names"),
            ({"entity_types": [1]}, "entity_types must be distinct names"),
            ({"num_aux_crops": -1}, "num_aux_crops must be an int, 0 or more, got -1"),
        ],
    )
    def test_options(self, folder, option, message):
        with pytest.raises(ValueError, match=message):
            folder.write("train", PARIS).builder(**option)


PREPARE = """
import sys
from processing.data.own.file_mner import FileMNER
builder = FileMNER(data_dir=sys.argv[1], cache_dir=sys.argv[2])
builder.download_and_prepare()
print(builder.as_dataset("train").num_rows, len(builder.report.skipped), flush=True)
"""
# What kills the process as soon as it writes rows.
KILLED = """
import os, pathlib, signal, sys, threading, time
started, cache = time.time(), pathlib.Path(sys.argv[2])
def watch():
    while not any(part.stat().st_mtime > started for part in cache.glob("**/*.incomplete/*.arrow")):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=watch, daemon=True).start()
"""


class TestTrouble:
    """A disk that is full or read-only, several processes, and a kill at any moment."""

    @pytest.fixture
    def prepare(self, folder, finish, tmp_path):
        """`prepare(program, ...)` -> the finished process, or two at once, for the folder's rows."""

        def run(program, **options):
            (tmp_path / "prepare.py").write_text(program)
            return finish([sys.executable, tmp_path / "prepare.py", folder.root, folder.cache], **options)

        return run

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
    def test_a_full_disk(self, folder):
        builder = folder.write("train", *[PARIS] * 3000).builder()
        part = Path(builder.cache_dir + ".incomplete", "file_mner-train-00000-00000-of-NNNNN.arrow")
        part.parent.mkdir(parents=True)
        part.symlink_to("/dev/full")  # The system itself says that there is no space.
        with pytest.raises(
            OSError, match=r"no space left in .*/cache/.*\. Free some, give another cache_dir"
        ) as error:
            builder.download_and_prepare()
        assert error.value.errno == errno.ENOSPC
        assert folder.prepare()[0]["train"].num_rows == 3000

    @pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
    def test_a_cache_that_cannot_be_written(self, folder, monkeypatch, number):
        folder.write("train", PARIS)
        builder = folder.builder()

        def refuse(path, *args, **kwargs):
            raise OSError(number, os.strerror(number), str(path))

        with monkeypatch.context() as patch:
            patch.setattr(os, "makedirs", refuse)
            with pytest.raises(
                OSError, match=r"/cache.* cannot be written\. Allow it, give another cache_dir, or set HF"
            ):
                builder.download_and_prepare()
            with pytest.raises(OSError, match=r"/cache cannot be written"):
                folder.builder()
        assert folder.prepare()[0]["train"].num_rows == 1

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
    def test_a_read_only_folder(self, folder):
        folder.write("train", PARIS)
        folder.cache.mkdir(mode=0o500)
        with pytest.raises(OSError, match=r"/cache.* cannot be written"):
            folder.prepare()

    def test_a_source_that_cannot_be_read_is_named(self, folder, monkeypatch):
        builder = folder.write("train", PARIS).builder()

        def refuse(*args, **kwargs):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder.root / "train.jsonl"))

        monkeypatch.setattr("processing.data.own.file_source.read_table", refuse)
        with pytest.raises(PermissionError, match=r"Permission denied: .*/mine/train\.jsonl"):
            builder.download_and_prepare()

    def test_two_processes_at_once(self, folder, prepare):
        folder.write("train", *[PARIS] * 3000, "{")
        assert prepare(PREPARE, processes=2).stdout == "3000 1\n" * 2

    def test_killed_while_preparing(self, folder, prepare):
        folder.write("train", *[PARIS] * 10_000, "{")
        for _ in range(2):  # the second time over what the first one left
            prepare(KILLED + PREPARE, exit_code=-signal.SIGKILL)
            assert list(folder.cache.glob("**/*.incomplete/*.arrow"))  # killed before it was done
        dataset, report = folder.prepare()
        assert dataset["train"].num_rows == 10_000 == len(set(dataset["train"]["id"]))
        assert report.splits["train"].counts["rows"] == 10_000 and len(report.skipped) == 1
        assert not list(folder.cache.glob("**/*.incomplete"))
