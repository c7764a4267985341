import json

import pytest

from processing.data import load_data
from processing.data.own.labelled_rows import LabelNames
from processing.data.own.relation_rows import read_pairs
from processing.problems import ProblemError


TEXT = "Jordan met Ana in Paris"
JORDAN, ANA, PARIS = (
    {"id": 4, "start": 0, "end": 6, "label": "PER"},
    {"id": 5, "start": 11, "end": 14, "label": "PER"},
    {"id": 6, "start": 18, "end": 23, "label": "LOC"},
)
PEERS = {"head": 1, "tail": 0, "relation": "peer"}


def pairs(**row):
    names = LabelNames(relations=["None", "peer"])
    return [(*found.pair, found.row_id) for found in read_pairs(row, "train-0", names)]


class TestPairs:
    @pytest.mark.parametrize(
        "row",
        [
            {"text": TEXT, "head": "Ana", "tail": "Jordan"},
            {"text": TEXT, "head": [11, 14], "tail": {"start": 0, "end": 6, "word": "Jordan"}},
            {"tokens": TEXT.split(), "head": [2, 3], "tail": {"name": "Jordan", "start": 0, "end": 1}},
            {"tokens": TEXT.split(), "text": TEXT, "head": [2, 3], "tail": "Jordan", "spans": [JORDAN]},
        ],
    )
    @pytest.mark.parametrize("relation", ["peer", 1])
    def test_one_pair_in_a_row(self, row, relation):
        assert pairs(**row, relation=relation) == [((2, 3), (0, 1), "peer", "train-0")]

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ({"head": "Ana", "tail": "Ana"}, "head and tail are the same words"),
            ({"head": "Ana", "tail": "Bo"}, "tail: the entity must occur once"),
            ({"head": "Ana"}, "tail: an entity is given as"),
            ({"head": [11, 13], "tail": "Jordan"}, "head: the characters of the entity are no whole words"),
            ({"head": "Ana", "tail": "Jordan", "relation": 7}, "relation: must be strings, or ids"),
        ],
    )
    def test_what_is_no_pair(self, row, message):
        with pytest.raises(ProblemError, match=message):
            pairs(**{"text": TEXT, "relation": "peer", **row})


class TestTexts:
    def test_all_pairs_of_a_text(self):
        assert pairs(id="7", text=TEXT, spans=[ANA, JORDAN, PARIS], relations=[{**PEERS, "head": 0, "tail": 1}]) == [
            ((2, 3), (0, 1), "peer", "7-0"),
            ((0, 1), (4, 5), "None", "7-1"),
            ((2, 3), (4, 5), "None", "7-2"),
        ]

    def test_words_with_tags(self):
        tags = ["B-PER", "O", "B-PER", "O", "O"]
        row = {"tokens": TEXT.split(), "ner_tags": tags, "relations": [PEERS]}
        assert pairs(**row) == [((2, 3), (0, 1), "peer", "train-0")]

    def test_no_pair(self):
        assert pairs(text=TEXT, spans=[ANA], relations=[]) == []

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            (
                {"relations": None},
                r"the row must have relation, head and tail, or .* \(it has values for text, spans\)",
            ),
            ({"relations": [{**PEERS, "head": 2}]}, r"relations 0: .*join two of the row's entities .* 2 entities"),
            (
                {"relations": [{**PEERS, "head": 0}]},
                "relations 0: each must have one name, and join two of the row's entities",
            ),
            ({"relations": [PEERS, {**PEERS, "relation": "None"}]}, r"one relation at most .* \['peer', 'None'\]"),
            ({"relations": [PEERS], "spans": [JORDAN, JORDAN]}, "spans: must not overlap"),
        ],
    )
    def test_what_cannot_be_used(self, row, message):
        with pytest.raises(ProblemError, match=message):
            pairs(**{"text": TEXT, "spans": [JORDAN, ANA], **row})


class TestSpellings:
    @pytest.mark.parametrize(
        "relation",
        [
            {"id": 1, "from_id": 5, "to_id": 4, "type": "peer"},
            {"from_id": 4, "to_id": 5, "type": "relation", "direction": "left", "labels": ["peer"]},
            {**PEERS, "score": 0.5},
            {"head": 2, "child": 0, "head_span": ANA, "child_span": JORDAN, "label": "peer"},
        ],
    )
    @pytest.mark.parametrize("more", [{}, {"tokens": TEXT.split(), "ner_tags": ["B-PER", "O", "B-PER", "O", "O"]}])
    def test_spellings(self, relation, more):
        assert pairs(text=TEXT, spans=[JORDAN, ANA], relations=[relation], **more) == [
            ((2, 3), (0, 1), "peer", "train-0")
        ]

    def test_both_directions_are_two_rows(self):
        relation = {"from_id": 5, "to_id": 4, "type": "relation", "direction": "bi", "labels": ["peer"]}
        assert [pair[:3] for pair in pairs(text=TEXT, spans=[JORDAN, ANA], relations=[relation])] == [
            ((2, 3), (0, 1), "peer"),
            ((0, 1), (2, 3), "peer"),
        ]

    @pytest.mark.parametrize(
        "relation",
        [
            {"from_id": 5, "to_id": 7, "type": "peer"},
            {"from_id": 5, "to_id": 4, "type": "relation", "labels": []},
            {"from_id": 5, "to_id": 4, "type": "relation", "direction": "right"},
            {"from_id": 5, "to_id": 4, "type": "relation", "labels": ["peer", "friend"]},
            {"head": 1, "tail": 0},
            {"head": "1", "tail": 0, "relation": "peer"},
            "peer",
        ],
    )
    def test_what_joins_no_two_entities(self, relation):
        with pytest.raises(
            ProblemError, match="relations 0: each must have one name, and join two of the row's entities"
        ):
            pairs(text=TEXT, spans=[JORDAN, ANA], relations=[relation])


DOCCANO = {
    "text": TEXT,
    "entities": [
        {"id": of["id"], "label": of["label"], "start_offset": of["start"], "end_offset": of["end"]}
        for of in (JORDAN, ANA)
    ],
    "relations": [{"id": 1, "from_id": 5, "to_id": 4, "type": "peer"}],
}
TASK = {
    "data": {"text": TEXT},
    "annotations": [
        {
            "result": [
                *(
                    {
                        "id": str(of["id"]),
                        "type": "labels",
                        "value": {**of, "text": TEXT[of["start"] : of["end"]], "labels": ["PER"]},
                    }
                    for of in (JORDAN, ANA)
                ),
                {"type": "relation", "from_id": "5", "to_id": "4", "direction": "right", "labels": ["peer"]},
            ]
        }
    ],
}


class TestAsData:
    def load(self, path, **options):
        data, report = load_data(str(path), cache_dir=str(path.parent / "cache"), **options)
        names = data["train"].features["relation"].names
        rows = [
            (row["head"], row["tail"], names[row["relation"]])
            for row in data["train"].remove_columns("image").to_list()
        ]
        return rows, names, report

    @pytest.mark.parametrize("row", [DOCCANO, TASK])
    def test_exports_of_tools(self, write_rows, tmp_path, row):
        write_rows(tmp_path / "train.jsonl", [row])
        rows, names, report = self.load(tmp_path / "train.jsonl", task="re")
        assert names == ["peer"] and not report.skipped
        jordan, ana = {"name": "Jordan", "start": 0, "end": 1}, {"name": "Ana", "start": 2, "end": 3}
        assert rows == [(ana, jordan, "peer")]
        data, report = load_data(str(tmp_path / "train.jsonl"), cache_dir=str(tmp_path / "cache"))
        assert data["train"]["ner_tags"][:] == [[1, 0, 1, 0, 0]]
        assert "the relations between entities are not used; with the task re they are" in report.notes

    def test_a_relation_without_a_name(self, write_rows, tmp_path):
        *entities, relation = TASK["annotations"][0]["result"]
        result = [*entities, {name: value for name, value in relation.items() if name not in ("labels", "direction")}]
        write_rows(tmp_path / "train.jsonl", [DOCCANO, {**TASK, "annotations": [{"result": result}]}])
        _, names, report = self.load(tmp_path / "train.jsonl", task="re")
        assert names == ["peer"] and "each must have one name" in str(report.skipped[0])
        data, report = load_data(str(tmp_path / "train.jsonl"), cache_dir=str(tmp_path / "cache"))
        assert len(data["train"]) == 2 and not report.skipped

    def test_csv(self, tmp_path):
        lines = [
            "id,text,head,tail,relation",
            f"a,{TEXT},Jordan,Ana,peer",
            f'b,{TEXT},"[0, 6]","[18, 23]",None',
            "c,,Ana,Bo,",
        ]
        (tmp_path / "train.csv").write_text("\n".join(lines))
        rows, names, report = self.load(tmp_path / "train.csv")
        assert names == ["None", "peer"]
        assert [(head["name"], tail["name"], relation) for head, tail, relation in rows] == [
            ("Jordan", "Ana", "peer"),
            ("Jordan", "Paris", "None"),
        ]
        assert [row.where for row in report.skipped] == ["train.csv:4"]
        assert "2 relations, with pairs in train: None 1, peer 1" in report.notes

    def test_texts_stay_as_they_were_given(self, write_rows, tmp_path):
        text = "RT Ana🔥met\u200b Bo Li!"
        row = {"text": text, "head": [3, 6], "tail": "Bo Li", "relation": "peer"}
        write_rows(
            tmp_path / "x.jsonl", [row, {"tokens": ["Ana", "Bo"], "head": "Ana", "tail": "Bo", "relation": "x"}]
        )
        first, second = load_data(str(tmp_path / "x.jsonl"), cache_dir=str(tmp_path / "cache"))[0]["train"]
        assert first["text"] == text and first["tokens"] == ["RT", "Ana", "🔥", "met", "Bo", "Li", "!"]
        assert [text[start:end] for start, end in first["offsets"]] == first["tokens"]
        assert first["head"] == {"name": "Ana", "start": 1, "end": 2}
        assert first["tail"] == {"name": "Bo Li", "start": 4, "end": 6}
        assert (second["text"], second["offsets"], second["tail"]["name"]) == (None, [], "Bo")

    def test_own_predictions(self, write_rows, tmp_path):
        entity = {"word": "Ana", "start": 11, "end": 14}
        row = {
            "text": TEXT,
            "relation": "peer",
            "score": 0.7,
            "head": entity,
            "tail": {"word": "Jordan", "start": 0, "end": 6},
        }
        write_rows(tmp_path / "train.jsonl", [row])
        assert [(head["name"], tail["name"]) for head, tail, _ in self.load(tmp_path / "train.jsonl")[0]] == [
            ("Ana", "Jordan")
        ]
        triples = {"entities": [{"entity_group": of["label"], **of} for of in (JORDAN, ANA)], "relations": [PEERS]}
        write_rows(tmp_path / "test.jsonl", [json.dumps({"text": TEXT, **triples})])
        data, _ = load_data(str(tmp_path / "test.jsonl"), cache_dir=str(tmp_path / "cache"), task="re")
        assert data["test"]["head"][0] == {"name": "Ana", "start": 2, "end": 3}

    def test_rows_without_relations_are_read_for_their_entities(self, write_rows, tmp_path):
        write_rows(tmp_path / "train.jsonl", [{"text": TEXT, "spans": [ANA]}])
        data, _ = load_data(str(tmp_path / "train.jsonl"), cache_dir=str(tmp_path / "cache"), task="re")
        assert "ner_tags" in data["train"].column_names
