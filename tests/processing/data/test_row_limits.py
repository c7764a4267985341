import pytest

from processing.data.row_limits import MAX_ROW_SIZE, find_problem


def nested(depth: int) -> list:
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("\ud800", r"a: a text must be valid Unicode, without half of a surrogate pair (got '\ud800')"),
        ([{"b": ["x\udfff"]}], r"a: a text must be valid Unicode, without half of a surrogate pair (got '\udfff')"),
        ({"\ud800": 1}, r"a: a text must be valid Unicode, without half of a surrogate pair (got '\ud800')"),
        ([1, 10**400], "a: whole numbers must have at most 1,000 bits (one has 1329)"),
        ([0xF << 40_000], "a: whole numbers must have at most 1,000 bits (one has 40004)"),
        (nested(40), "a: there must be at most 32 lists or dicts inside each other"),
        (nested(500), "a: there must be at most 32 lists or dicts inside each other"),
        ([{1: 2}], "a: the keys of a dict must be text"),
        ("x" * MAX_ROW_SIZE, "the row must have at most 1,048,576 characters and other values"),
        ([[]] * MAX_ROW_SIZE, "the row must have at most 1,048,576 characters and other values"),
    ],
)
def test_values_that_nothing_works_with(value, message):
    assert str(find_problem({"id": "1", "a": value})) == message


def test_usable_values():
    row = {"a": [None, True, 1.5, float("nan"), 1 << 64, "🔥", "\0", b"\xff", object()], "b": {"c": nested(20)}}
    assert find_problem(row) is None
    assert find_problem({"\ud800": 1}).column is None
