import pytest
from datasets import Dataset, Features
from hypothesis import given
from hypothesis import strategies as st

from processing.columns import OBJECT_COLUMNS
from processing.data.own.labelled_rows import LabelNames, read_labelled_row, read_objects
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


@given(ANY_OBJECT | st.lists(ANY_OBJECT, max_size=3))
def test_any_objects_fit_their_column_or_have_a_problem(objects):
    try:
        checked = read_objects({"aux_objects": objects}, "aux_objects")
    except ProblemError as error:
        assert error.problem.column == "aux_objects"
    else:
        feature = with_objects(ner_features(["O"]))["aux_objects"]
        Dataset.from_list([{"aux_objects": checked}], features=Features({"aux_objects": feature}))
