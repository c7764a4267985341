import json

import pytest
from datasets import Dataset, Features
from hypothesis import given
from hypothesis import strategies as st

from processing.columns import OBJECT_COLUMNS
from processing.data import load_data
from processing.data.own.labelled_rows import LabelNames, read_labelled_row, read_objects, read_pairs
from processing.problems import ProblemError
from processing.rows.row_features import ner_features, with_objects


PARIS = {"text": "Paris!", "spans": [{"start": 0, "end": 5, "label": "LOC"}]}
JORDAN = {"tokens": ["Michael", "Jordan"], "ner_tags": ["B-PER", "I-PER"]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"spans": [(0, 5), (4, 6)]}, "spans: must not overlap once they are whole words ('Paris' and 's!')"),
        ({"spans": [(4, 6), (0, 5)]}, "spans: must not overlap once they are whole words ('Paris' and 's!')"),
        ({"spans": [(0, 5), (0, 5)]}, "spans: must not overlap once they are whole words ('Paris' and 'Paris')"),
        ({"spans": [(0, 2), (3, 5)]}, "spans: must not overlap once they are whole words ('Pa' and 'is')"),
        (
            {"spans": [(2, 2)]},
            "spans: must be 0 <= start < end <= length of the text (got 2:2 in a text of 8 characters)",
        ),
        ({"spans": [(5, 0)]}, "spans: must be 0 <= start < end <= length of the text (got 5:0"),
        ({"spans": [(0, 9)]}, "spans: must be 0 <= start < end <= length of the text (got 0:9"),
        ({"spans": [(-1, 5)]}, "spans: must be 0 <= start < end <= length of the text (got -1:5"),
        ({"spans": [(6, 7)]}, "spans: each must have a word (got ' ' at 6)"),
        (
            {"spans": [(0, 1.5)]},
            "spans: start and end must be whole numbers (got {'start': 0, 'end': 1.5",
        ),
        ({"spans": [(False, 5)]}, "spans: start and end must be whole numbers"),
        ({"spans": [("0", "5")]}, "spans: start and end must be whole numbers"),
        (
            {"spans": [{"start": 0, "end": 5}]},
            "spans: each must be a dict with start, end and label (got",
        ),
        ({"spans": [[0, 5, "LOC"]]}, "spans: each must be a dict with start, end and label (got [0, 5"),
        (
            {"text": "Paris", "spans": {"start": 0}},
            "spans: must be a list (got {'start': 0})",
        ),
        ({"text": "Paris", "spans": "none"}, "spans: must be a list (got 'none')"),
        (
            {"spans": [{"start": 0, "end": 5, "label": 3}]},
            "spans: must be strings: the file has no names for their ids (got 3)",
        ),
        (
            {"spans": [{"start": 0, "end": 5, "label": ""}]},
            "spans: must be strings, or ids of the file's own names (got '')",
        ),
        ({"spans": [], "entities": []}, "the row must have spans or entities, not both"),
        (
            {"text": "x"},
            "the row has no labels: it must have ner_tags, or text and spans (an empty list for no entity)",
        ),
        ({"tokens": ["x"]}, "the row has no labels: it must have ner_tags, or text and spans"),
        ({"tokens": ["x"], "ner_tags": []}, "the row has no labels"),
        ({"tokens": ["x", "y"], "ner_tags": [-100, -100]}, "the row has no labels"),
        ({}, "the row must have tokens and ner_tags, or text and spans"),
        ({"text": 5, "spans": []}, "text: must be a string (got 5)"),
        ({"text": "", "spans": []}, "text: must have a word (got '')"),
        ({"text": " \u3000\n", "spans": []}, "text: must have a word"),
        (
            {"tokens": ["a"], "ner_tags": ["O", "O"]},
            "ner_tags: must have one tag for each word (1 tokens, 2 ner_tags)",
        ),
        ({"tokens": [], "ner_tags": []}, "tokens: must be words, none of them empty (got [])"),
        (
            {"tokens": ["a", ""], "ner_tags": ["O", "O"]},
            "tokens: must be words, none of them empty (got ['a', ''])",
        ),
        (
            {"tokens": "a b", "ner_tags": ["O", "O"]},
            "tokens: must be a list of words, one for each of ner_tags (got 'a b')",
        ),
        (
            {"tokens": ["a", 1], "ner_tags": ["O", "O"]},
            "tokens: must be a list of words, one for each of ner_tags (got ['a', 1])",
        ),
        ({"ner_tags": ["O", "O"]}, "tokens: must be a list of words, one for each of ner_tags (got None)"),
        ({"tokens": ["a"], "ner_tags": "O"}, "ner_tags: must be a list of tags (got 'O')"),
        (
            {"tokens": ["a"], "ner_tags": [1]},
            "ner_tags: must be strings: the file has no names for their ids, and there is no label.json beside it",
        ),
        (
            {"tokens": ["a", "b"], "ner_tags": ["O", None]},
            "ner_tags: must be strings, or ids of the file's own names (got None)",
        ),
        ({**JORDAN, "id": 1.5}, "id: must be a string (got 1.5)"),
        ({**JORDAN, "id": ""}, "id: must be a string (got '')"),
        ({**JORDAN, "image_id": []}, "image_id: must be a string (got [])"),
        (
            {**JORDAN, "aux_objects": [{"label": "dog"}]},
            "aux_objects: must be a list of dicts with label, score and box (got [{",
        ),
        (
            {**JORDAN, "aux_objects": [{"label": "dog", "score": 10**400, "box": [0, 0, 1, 1]}]},
            "aux_objects: must be a list of dicts with label, score and box",
        ),
        (
            {**JORDAN, "aux_objects": [{"label": "dog", "score": 1, "box": [0, 0, 1, 10**400]}]},
            "aux_objects: must be a list of dicts with label, score and box",
        ),
        ({**JORDAN, "rcnn_objects": 1}, "rcnn_objects: must be a list of dicts with label, score and box (got 1)"),
    ],
)
def test_rows_that_cannot_be_used(row, reason):
    if isinstance(row.get("spans"), list) and "text" not in row:
        spans = [{"start": s[0], "end": s[1], "label": "LOC"} if isinstance(s, tuple) else s for s in row["spans"]]
        row = {"text": "Paris!  ", **row, "spans": spans}
    with pytest.raises(ProblemError) as error:
        read_labelled_row(row, "train-0", LabelNames())
        for column in OBJECT_COLUMNS:
            read_objects(row, column)
    assert str(error.value).startswith(reason)


def test_a_problem_is_counted_by_kind_and_column():
    problems = []
    for tags in (["O"], ["O", "O", "O"]):
        with pytest.raises(ProblemError) as error:
            read_labelled_row({"tokens": ["a", "b"], "ner_tags": tags}, "train-0", LabelNames())
        problems.append(error.value.problem)
    assert len({(problem.kind, problem.column) for problem in problems}) == 1 and problems[0] != problems[1]


@given(
    st.dictionaries(
        st.sampled_from(["id", "text", "tokens", "ner_tags", "spans", "entities"]),
        st.deferred(
            lambda: (
                st.none()
                | st.integers()
                | st.text(max_size=5)
                | st.lists(
                    st.text(max_size=3)
                    | st.integers(0, 3)
                    | st.fixed_dictionaries(
                        {
                            "start": st.integers(-1, 5),
                            "end": st.integers(-1, 6),
                            "label": st.sampled_from(["LOC", "", 3]),
                        }
                    ),
                    max_size=3,
                )
            )
        ),
    )
)
def test_any_row_can_be_used_or_has_a_problem(row):
    try:
        labelled = read_labelled_row(row, "train-0", LabelNames())
    except ProblemError as error:
        assert error.problem.kind
    else:
        assert len(labelled.tokens) == len(labelled.tags) > 0


NUMBERS = st.floats(width=32) | st.integers() | st.sampled_from([10**400, -(10**400), None, "1", "x"])
ANY_OBJECT = NUMBERS | st.fixed_dictionaries(
    {"label": st.sampled_from(["dog", "", None]), "score": NUMBERS, "box": st.lists(NUMBERS, min_size=3, max_size=5)}
)


def test_an_object_need_not_have_a_score():
    drawn = {"label": "dog", "score": None, "box": [0.0, 0.0, 9.0, 9.0]}
    assert read_objects({"aux_objects": [drawn]}, "aux_objects") == [drawn]


@given(ANY_OBJECT | st.lists(ANY_OBJECT, max_size=3))
def test_any_objects_fit_their_column_or_have_a_problem(objects):
    try:
        checked = read_objects({"aux_objects": objects}, "aux_objects")
    except ProblemError as error:
        assert error.problem.column == "aux_objects"
    else:
        feature = with_objects(ner_features(["O"]))["aux_objects"]
        Dataset.from_list([{"aux_objects": checked}], features=Features({"aux_objects": feature}))


TEXT = "Jordan met Ana in Paris"
JORDAN_SPAN, ANA, PARIS_SPAN = (
    {"id": 4, "start": 0, "end": 6, "label": "PER"},
    {"id": 5, "start": 11, "end": 14, "label": "PER"},
    {"id": 6, "start": 18, "end": 23, "label": "LOC"},
)
PEERS = {"head": 1, "tail": 0, "relation": "peer"}


def pairs(**row):
    names = LabelNames(relations=["None", "peer"])
    return [(*found.pair, found.row_id) for found in read_pairs(row, "train-0", names)]


class TestGivenPairs:
    @pytest.mark.parametrize(
        "row",
        [
            {"text": TEXT, "head": "Ana", "tail": "Jordan"},
            {"text": TEXT, "head": [11, 14], "tail": {"start": 0, "end": 6, "word": "Jordan"}},
            {"tokens": TEXT.split(), "head": [2, 3], "tail": {"name": "Jordan", "start": 0, "end": 1}},
            {"tokens": TEXT.split(), "text": TEXT, "head": [2, 3], "tail": "Jordan", "spans": [JORDAN_SPAN]},
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


class TestPairsOfAText:
    def test_all_pairs_of_a_text(self):
        assert pairs(
            id="7", text=TEXT, spans=[ANA, JORDAN_SPAN, PARIS_SPAN], relations=[{**PEERS, "head": 0, "tail": 1}]
        ) == [
            ((2, 3), (0, 1), "peer", "7-0"),
            ((4, 5), (0, 1), "None", "7-1"),
            ((2, 3), (4, 5), "None", "7-2"),
        ]

    def test_the_order_of_two_does_not_tell_that_they_are_unrelated(self):
        entities = [ANA, JORDAN_SPAN, PARIS_SPAN]
        heads = [
            [head < tail for head, tail, *_ in pairs(id=str(number), text=TEXT, spans=entities, relations=[])]
            for number in range(200)
        ]
        assert all(0.4 < sum(of_pair) / 200 < 0.6 for of_pair in zip(*heads, strict=True))
        assert len({tuple(of_text) for of_text in heads}) == 8
        assert len(pairs(id="\ud83d", text=TEXT, spans=entities, relations=[])) == 3  # half a surrogate pair

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
            ({"relations": [PEERS], "spans": [JORDAN_SPAN, JORDAN_SPAN]}, "spans: must not overlap"),
        ],
    )
    def test_what_cannot_be_used(self, row, message):
        with pytest.raises(ProblemError, match=message):
            pairs(**{"text": TEXT, "spans": [JORDAN_SPAN, ANA], **row})


class TestSpellingsOfRelations:
    @pytest.mark.parametrize(
        "relation",
        [
            {"id": 1, "from_id": 5, "to_id": 4, "type": "peer"},
            {"from_id": 4, "to_id": 5, "type": "relation", "direction": "left", "labels": ["peer"]},
            {**PEERS, "score": 0.5},
            {"head": 2, "child": 0, "head_span": ANA, "child_span": JORDAN_SPAN, "label": "peer"},
        ],
    )
    @pytest.mark.parametrize("more", [{}, {"tokens": TEXT.split(), "ner_tags": ["B-PER", "O", "B-PER", "O", "O"]}])
    def test_spellings(self, relation, more):
        assert pairs(text=TEXT, spans=[JORDAN_SPAN, ANA], relations=[relation], **more) == [
            ((2, 3), (0, 1), "peer", "train-0")
        ]

    def test_both_directions_are_two_rows(self):
        relation = {"from_id": 5, "to_id": 4, "type": "relation", "direction": "bi", "labels": ["peer"]}
        assert [pair[:3] for pair in pairs(text=TEXT, spans=[JORDAN_SPAN, ANA], relations=[relation])] == [
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
            pairs(text=TEXT, spans=[JORDAN_SPAN, ANA], relations=[relation])


DOCCANO = {
    "text": TEXT,
    "entities": [
        {"id": of["id"], "label": of["label"], "start_offset": of["start"], "end_offset": of["end"]}
        for of in (JORDAN_SPAN, ANA)
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
                    for of in (JORDAN_SPAN, ANA)
                ),
                {"type": "relation", "from_id": "5", "to_id": "4", "direction": "right", "labels": ["peer"]},
            ]
        }
    ],
}


class TestRelationsAsData:
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
        triples = {
            "entities": [{"entity_group": of["label"], **of} for of in (JORDAN_SPAN, ANA)],
            "relations": [PEERS],
        }
        write_rows(tmp_path / "test.jsonl", [json.dumps({"text": TEXT, **triples})])
        data, _ = load_data(str(tmp_path / "test.jsonl"), cache_dir=str(tmp_path / "cache"), task="re")
        assert data["test"]["head"][0] == {"name": "Ana", "start": 2, "end": 3}

    def test_rows_without_relations_are_read_for_their_entities(self, write_rows, tmp_path):
        write_rows(tmp_path / "train.jsonl", [{"text": TEXT, "spans": [ANA]}])
        data, _ = load_data(str(tmp_path / "train.jsonl"), cache_dir=str(tmp_path / "cache"), task="re")
        assert "ner_tags" in data["train"].column_names
