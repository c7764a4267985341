import csv
import io
import json
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.data.own.tables import read_table
from processing.problems import Problem


NO_NUL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


NO_VALUE = "spans: must be a list or dict, as JSON, Python or numpy write them"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


def rows(path):
    return [row for _, row in read_table(path)]


def test_cells(write):
    text = (
        "\ufeffid,text,tokens,ner_tags,spans,image,aux_crops\r\n"
        '1,"a, ""b""\r\nc",New  York\xa0!,B-LOC O,"[{""start"": 0}]",a;b.jpg,a b.jpg;c.jpg\r\n'
        "\r\n"
        ",,,,,,\r\n"
    )
    assert list(read_table(write(text, "x.csv"))) == [
        (
            2,
            {
                "id": "1",
                "text": 'a, "b"\r\nc',
                "tokens": ["New", "York\xa0!"],
                "ner_tags": ["B-LOC", "O"],
                "spans": [{"start": 0}],
                "image": "a;b.jpg",
                "aux_crops": ["a b.jpg", "c.jpg"],
            },
        ),
        (5, dict.fromkeys(["id", "text", "tokens", "ner_tags", "spans", "image", "aux_crops"])),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1", "the row must have a cell for each column of the header (1 in this line, 2 columns)"),
        ("1,2,3", "the row must have a cell for each column of the header (3 in this line, 2 columns)"),
        ('"1"x,[]', "the line is not CSV (',' expected after '\"')"),
        (
            "1,[",
            f"{NO_VALUE} (it is '[': Expecting value at character 2)",
        ),
        (
            '1,"""\\ud800"""',
            "spans: a text must be valid Unicode, without half of a surrogate pair (got '\\ud800')",
        ),
        ("x\0,[]", "the line is not text (its character 2 is NUL, 0x00)"),
        ("x" * 200_000 + ",[]", "the line is not CSV (field larger than field limit (131072))"),
        ("a\rb,[]", "the line is not CSV (new-line character seen in unquoted field"),
    ],
)
def test_unreadable_rows(write, line, reason):
    result = list(read_table(write(f"text,spans\nParis,[]\n{line}\nLondon,[]\n", "x.csv")))
    assert [number for number, _ in result] == [2, 3, 4]
    assert (result[0][1], result[2][1]) == ({"text": "Paris", "spans": []}, {"text": "London", "spans": []})
    assert str(result[1][1]).startswith(reason)


def test_a_quote_in_the_middle_of_a_cell(write):
    assert rows(write('text\n5" screen\n', "x.csv")) == [{"text": '5" screen'}]


@pytest.mark.parametrize("following", ["y,2\n", 'y,"2"\n', '"y",2\n', '"y\ny",2\n', '"y ""q""",2\n'])
@pytest.mark.parametrize("broken", ['x,"1\n', '"x,1\n'])
def test_an_open_quote_costs_one_row(write, broken, following):
    first, error, *others = rows(write("text,n\nw,0\n" + broken + following * 3, "x.csv"))
    assert first == {"text": "w", "n": "0"}
    assert error.kind == "a quote is opened and not closed"
    assert others == rows(write("text,n\n" + following * 3, "y.csv")) and len(others) == 3


def test_an_open_quote_that_the_next_row_closes(write):
    # All of it is right by the rules but for the columns; the second row is read all the same.
    wrong = "(1 in lines 2 to 3, 2 columns)"
    result = list(read_table(write('a,b\n"x,1\ny"\nz,2\n', "x.csv")))
    assert result[0] == (2, Problem("the row must have a cell for each column of the header", details=wrong))
    assert result[-1] == (4, {"a": "z", "b": "2"})


def test_an_open_quote_in_a_long_file(write):
    result = rows(write("a,b\n" + 'x,"1\n' + "y,2\n" * 20_000 + 'x,"1\n', "x.csv"))
    assert [i for i, row in enumerate(result) if isinstance(row, Problem)] == [0, 20_001]
    assert str(result[0]) == "a quote is opened and not closed (lines looked at: 101)"
    assert str(result[-1]) == "a quote is opened and not closed (lines looked at: 1)"


def test_every_line_opens_a_quote(write):
    result = rows(write("a,b\n" + '5","x\n' * 3_000, "x.csv"))
    assert len(result) == 3_000 and all(isinstance(row, Problem) for row in result)


def test_an_unreadable_line_within_quotes(write):
    result = list(read_table(write(b'a,b\n"x\n\xff",1\ny,2\n', "x.csv")))
    assert result[0] == (2, Problem("a quote is opened and not closed", details="(lines looked at: 1)"))
    assert result[1][0] == 3 and result[1][1].kind == "the line is not UTF-8"
    assert result[2] == (4, {"a": "y", "b": "2"})


@pytest.mark.parametrize("header", ["a,a", "a,", '"a', b"\xff"])
def test_header(write, header):
    header = header if isinstance(header, bytes) else header.encode()
    with pytest.raises(ValueError, match=r"x\.csv:1: expected a header"):
        rows(write(header + b"\nParis,1\n", "x.csv"))


@settings(deadline=None)
@given(st.data())
def test_csv_reads_the_same(place, data):
    names = data.draw(st.lists(st.sampled_from(["id", "text", "image", "x,y", 'q"', "a b"]), min_size=2, unique=True))
    end = data.draw(st.sampled_from(["\r\n", "\n"]))
    # csv.writer leaves a carriage return outside quotes where its lines end without one.
    cells = NO_NUL if end == "\r\n" else NO_NUL.map(lambda cell: cell.replace("\r", ""))
    written = data.draw(st.lists(st.lists(cells, min_size=len(names), max_size=len(names)), max_size=5))
    path = place / "same.csv"
    with open(path, "w", encoding=data.draw(st.sampled_from(["utf-8", "utf-8-sig"])), newline="") as file:
        writer = csv.writer(file, lineterminator=end)
        writer.writerows([names, *written])
    assert rows(path) == [{n: cell or None for n, cell in zip(names, row, strict=True)} for row in written]


@settings(deadline=None)
@given(st.lists(st.lists(st.text("ab\xa0\u2028é'\"{}", min_size=1), min_size=1), min_size=1))
def test_lists_in_csv_read_the_same(place, written):
    path = place / "lists.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["tokens", "spans", "rcnn_crops"])
        writer.writerows([" ".join(words), json.dumps(words), ";".join(words)] for words in written)
    assert rows(path) == [{"tokens": words, "spans": words, "rcnn_crops": words} for words in written]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("Jordan met", ["Jordan", "met"]),
        ('["Jordan", "said \\"hi\\""]', ["Jordan", 'said "hi"']),
        ("['Jordan', \"it's\"]", ["Jordan", "it's"]),
        ("[ DATA ]", ["[", "DATA", "]"]),
        ('[ NEW ] " Cut I ]', ["[", "NEW", "]", '"', "Cut", "I", "]"]),
        ("[DATA] is here", ["[DATA]", "is", "here"]),
        ("( ' _ ' )", ["(", "'", "_", "'", ")"]),
        ("[]", []),
        ("['Jordan' 'flew'\n 'to' \"Ana's\"]", ["Jordan", "flew", "to", "Ana's"]),
        ("[np.str_('a'), np.str_('b')]", ["a", "b"]),
        ("array(['a', 'b'],\n      dtype=object)", ["a", "b"]),
        ("('a', 'b')", ["a", "b"]),
    ],
)
def test_lists_in_cells_of_csv(tmp_path, cell, words):
    with open(tmp_path / "a.csv", "w", newline="") as file:
        csv.writer(file).writerows([["tokens"], [cell]])
    assert list(read_table(tmp_path / "a.csv")) == [(2, {"tokens": words})]


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        ("tokens", "['a' 'b' ... 'y' 'z']", "cut short where ... stands"),
        ("tokens", "['a' 'b', 'c']", "two of its items have nothing between them"),
        ("tokens", "['it''s']", "two of its items have nothing between them"),
        ("tokens", "['a', ['b' 'c', 'd']]", "two of its items have nothing between them"),
        ("tokens", "['Jordan', 'fle", "character 2"),
        ("tokens", "[Jordan, flew]", "character 2"),
        ("tokens", "[__import__('os')]", "character 2"),
        ("tokens", "{'a': 1}", "this is a dict"),
        ("ner_tags", "B-PER,O,O", "',' is no part of a tag"),
        ("ner_tags", "B-PER\tO", "'\\t' is no part of a tag"),
        ("ner_tags", "B-PER;O", "';' is no part of a tag"),
        ("spans", "{'a': 'x' 'y'}", "two of its items have nothing between them"),
        ("spans", "[{'start': 0}] [{'start': 1}]", "it is more than one value"),
        ("image", "['a.jpg' 'b.jpg', 'c.jpg']", "two of its items have nothing between them"),
    ],
)
def test_cells_that_are_not_understood(write, column, cell, reason):
    file = io.StringIO()
    csv.writer(file).writerows([["id", column], ["1", cell]])
    ((line, problem),) = read_table(write(file.getvalue(), "x.csv"))
    assert (line, problem.column) == (2, column) and reason in problem.details


@pytest.mark.parametrize("part", ["'a\\", "a\\'", "'a\\'", "\"\\'"])
@pytest.mark.parametrize("end", ["]", "\\]"])
def test_quotes_that_are_never_closed_take_no_time(write, part, end):
    file, start = io.StringIO(), time.monotonic()
    csv.writer(file).writerows([["id", "tokens"], ["1", "[" + part * (120_000 // len(part)) + end]])
    ((_, problem),) = read_table(write(file.getvalue(), "x.csv"))
    assert problem.column == "tokens" and time.monotonic() - start < 5  # It was a minute.


SPAN = {"start": 0, "end": 6, "label": "PER"}


@pytest.mark.parametrize(
    ("column", "cell", "value"),
    [
        ("spans", "[{'start': np.int64(0), 'end': 6, 'label': 'PER'}]", [SPAN]),
        ("spans", f"[{SPAN}\n {SPAN}]", [SPAN, SPAN]),
        ("spans", "[(0, 6, 'PER')]", [[0, 6, "PER"]]),
        ("ner_tags", "[0 1 2]", [0, 1, 2]),
        ("image", "{'bytes': b'\\x89', 'path': None}", {"bytes": b"\x89", "path": None}),
        ("image", "photos/[1].jpg", "photos/[1].jpg"),
        ("head", "[0, 6]", [0, 6]),
        ("head", "Jordan [USA]", "Jordan [USA]"),
        ("crops", "auto", "auto"),
        ("aux_crops", "['a.jpg' 'b;.jpg']", ["a.jpg", "b;.jpg"]),
    ],
)
def test_values_in_cells(write, column, cell, value):
    file = io.StringIO()
    csv.writer(file).writerows([[column, "id"], [cell, "1"]])
    assert rows(write(file.getvalue(), "x.csv")) == [{column: value, "id": "1"}]


@settings(deadline=None)
@given(st.lists(st.lists(st.text("ab \xa0é'\"\\\\[],{}()#\n"), min_size=1, max_size=9), min_size=1, max_size=5))
def test_lists_as_pandas_writes_them(place, written):
    path = place / "pandas.csv"
    arrays = [np.array(words, dtype=object) for words in written]
    pd.DataFrame({"tokens": arrays, "aux_crops": written, "spans": [list(map(np.str_, w)) for w in written]}).to_csv(
        path
    )
    assert rows(path) == [{"tokens": words, "aux_crops": words, "spans": words} for words in written]


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize("name", ["x.csv", "x.tsv"])
def test_other_delimiters_and_row_numbers(write, delimiter, name):
    lines = [["", "Unnamed: 0", "text", "aux_crops"], ["0", "0", "a, b", '"1.jpg;2.jpg"']]
    text = "".join(f"{delimiter.join(cells)}\n" for cells in lines)
    assert rows(write(text, name)) == [{"text": "a, b", "aux_crops": ["1.jpg", "2.jpg"]}]


@pytest.mark.parametrize("cell", ["(0, 3)", "(np.int64(0), np.int64(3))", "[0, 3]", "( 0 , 3 )"])
@pytest.mark.parametrize("column", ["head", "tail"])
def test_a_place_in_the_text(write, column, cell):
    assert rows(write(f'{column}\n"{cell}"\n', "x.csv")) == [{column: [0, 3]}]


@pytest.mark.parametrize("cell", ["(Ana, Bo)", "(2022)", "(0 3)"])
def test_an_entity_in_brackets_is_text(write, cell):
    assert rows(write(f'head\n"{cell}"\n', "x.csv")) == [{"head": cell}]


@pytest.mark.parametrize(
    "cell", ["{'a', 'b'}", "{'a','b'}", "frozenset({'a', 'b'})", "{0: 'a', 1: 'b'}", "{'0': 'a'}"]
)
@pytest.mark.parametrize("column", ["tokens", "ner_tags", "aux_crops"])
def test_what_has_no_order_is_no_list(write, column, cell):
    (row,) = rows(write(f'{column}\n"{cell}"\n', "x.csv"))
    assert isinstance(row, Problem) and row.column == column


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("a dog, and a cup", "a dog, and a cup"),
        ("[a dog]", "[a dog]"),
        ("(1, 2)", "(1, 2)"),
        ('["a", {"kind": "ocr", "text": "b"}]', ["a", {"kind": "ocr", "text": "b"}]),
        ("[{'kind': None, 'text': 'it is'}]", [{"kind": None, "text": "it is"}]),
        ('{"text": "b"}', {"text": "b"}),
    ],
)
def test_contexts(tmp_path, cell, value):
    with open(tmp_path / "a.csv", "w", newline="") as file:
        csv.writer(file).writerows([("text", "context"), ("x", cell)])
    assert [row["context"] for _, row in read_table(tmp_path / "a.csv")] == [value]
