"""Tweets in every format give what TwitterMNER gives."""

import csv

import datasets
import pytest

from processing.data.own.file_mner import FileMNER
from processing.data.twitter_mner import read_sentences
from processing.labels import TWITTER_TAGS, entity_spans
from processing.rows.row_features import ner_features
from processing.tokenizing import join_words


# The parts of an entity of BIOES by the length of the entity.
def bioes(tags):
    tags = list(tags)
    for entity_type, start, end in entity_spans(tags):
        letters = "S" if end - start == 1 else "B" + "I" * (end - start - 2) + "E"
        tags[start:end] = [f"{letter}-{entity_type}" for letter in letters]
    return tags


def iob1(tags):
    tags, last = list(tags), ("", -1)
    for entity_type, start, end in entity_spans(tags):
        tags[start:end] = [f"I-{entity_type}"] * (end - start)
        if last == (entity_type, start):
            tags[start] = f"B-{entity_type}"
        last = (entity_type, end)
    return tags


class TestRealTweets:
    @pytest.mark.parametrize("kind", ["jsonl", "bioes.jsonl", "iob1.jsonl", "csv", "parquet", "disk"])
    def test_twitter2017(self, shared, write_rows, tmp_path, kind, tags_of):
        root, scheme = tmp_path / "mine", {"bioes.jsonl": bioes, "iob1.jsonl": iob1}.get(kind, list)
        expected = {
            split: list(read_sentences(str(shared / "data" / "twitter2017" / f"{name}.txt")))
            for split, name in (("validation", "valid"), ("test", "test"))
        }
        features = ner_features(TWITTER_TAGS).copy()
        features = datasets.Features({name: features[name] for name in ("image_id", "tokens", "ner_tags")})
        saved = {}
        root.mkdir()
        for split, sentences in expected.items():
            rows = [{"image_id": s.image_id, "tokens": s.tokens, "ner_tags": scheme(s.tags)} for s in sentences]
            if kind == "csv":
                with open(root / f"{split}.csv", "w", encoding="utf-8", newline="") as file:
                    writer = csv.writer(file)
                    writer.writerow(features)
                    writer.writerows([s.image_id, " ".join(s.tokens), " ".join(s.tags)] for s in sentences)
            elif kind in ("parquet", "disk"):
                saved[split] = datasets.Dataset.from_list(rows, features=features)
            else:
                write_rows(root / f"{split}.jsonl", rows)
        if kind == "disk":
            datasets.DatasetDict(saved).save_to_disk(root)
        for split in saved if kind == "parquet" else ():
            saved[split].to_parquet(root / f"{split}-00000-of-00001.parquet")

        builder = FileMNER(data_dir=root, cache_dir=str(tmp_path / "cache"), strict=True)
        builder.download_and_prepare()
        read = builder.as_dataset()
        for split, sentences in expected.items():
            assert read[split]["image_id"][:] == [sentence.image_id for sentence in sentences]
            assert read[split]["tokens"][:] == [sentence.tokens for sentence in sentences]
            assert tags_of(read[split]) == [sentence.tags for sentence in sentences]
        names = read["test"].features["ner_tags"].feature.names
        assert names == TWITTER_TAGS if saved else sorted(names) == sorted(TWITTER_TAGS)
        normalised = sum(split.counts["tags_normalised"] for split in builder.report.splits.values())
        tags = [sentence.tags for sentences in expected.values() for sentence in sentences]
        assert normalised == sum(a != b for row in tags for a, b in zip(row, scheme(row), strict=True))
        name = {"bioes.jsonl": "BIOES", "iob1.jsonl": "IOB1"}.get(kind, "IOB2")
        assert builder.report.notes[0] == f"tag scheme: {name}, as found; now IOB2"

    def test_twitter2015_has_stray_tags(self, shared, write_rows, tmp_path, tags_of):
        sentences = list(read_sentences(str(shared / "data" / "twitter2015" / "train.txt")))
        write_rows(tmp_path / "x.jsonl", ({"tokens": s.tokens, "ner_tags": s.tags} for s in sentences))
        builder = FileMNER(data_dir=tmp_path / "x.jsonl", cache_dir=str(tmp_path / "cache"), strict=True)
        builder.download_and_prepare()
        tags = tags_of(builder.as_dataset("train"))
        assert [entity_spans(row) for row in tags] == [entity_spans(sentence.tags) for sentence in sentences]
        changed = sum(a != b for row, s in zip(tags, sentences, strict=True) for a, b in zip(row, s.tags, strict=True))
        assert builder.report.splits["train"].counts["tags_normalised"] == changed > 100
        assert not any(entity_spans(row) != strict_spans(row) for row in tags)

    def test_spans(self, shared, write_rows, tmp_path, tags_of):
        sentences = list(read_sentences(str(shared / "data" / "twitter2017" / "train.txt")))
        rows, entities = [], []
        for sentence in sentences:
            text, _, offsets = join_words(sentence.tokens)
            spans = [(offsets[a][0], offsets[b - 1][1], name) for name, a, b in entity_spans(sentence.tags)]
            rows.append({"text": text, "spans": [dict(zip(("start", "end", "label"), s, strict=True)) for s in spans]})
            entities.append([(name, text[start:end].replace(" ", "")) for start, end, name in spans])
        write_rows(tmp_path / "x.jsonl", rows)
        builder = FileMNER(data_dir=tmp_path / "x.jsonl", cache_dir=str(tmp_path / "cache"), strict=True)
        builder.download_and_prepare()
        read = builder.as_dataset("train")
        assert not builder.report.moved
        assert entities == [
            [(name, "".join(words[start:end])) for name, start, end in entity_spans(tags)]
            for words, tags in zip(read["tokens"], tags_of(read), strict=True)
        ]


def strict_spans(tags):
    """Entities of tags that are strictly IOB2: those that start with `B-`."""
    starts = [(index, tag[2:]) for index, tag in enumerate(tags) if tag.startswith("B-")]
    return [
        (name, start, next((i for i in range(start + 1, len(tags)) if tags[i] != f"I-{name}"), len(tags)))
        for start, name in starts
    ]
