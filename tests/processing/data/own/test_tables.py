import io
import json
import re
import tracemalloc

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.data.own import text_tables
from processing.data.own.find_tables import find_tables
from processing.data.own.tables import place_of, read_table, table_features
from processing.problems import Problem


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NO_NUL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(TEXT, children, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


def rows(path, columns=None):
    return [row for _, row in read_table(path, columns)]


class TestText:
    def test_json_lines(self, write):
        path = write('\ufeff{"a": 1}\r\n\n  {"a": "\u2028\x85"}  \n{"a": "\\ud83d\\ude00 \\u0000"}', "x.jsonl")
        assert list(read_table(path)) == [(1, {"a": 1}), (3, {"a": "\u2028\x85"}), (4, {"a": "\U0001f600 \0"})]

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b'{"a": 1', r"the line cannot be read as JSON \(Expecting ',' delimiter at character 8\)"),
            (b'{"a": 1} {"a": 2}', "Extra data at character 10"),
            (b"[1]", r"the line is not a JSON object \(it is '\[1\]'\)"),
            (b"null", "it is 'null'"),
            (b'{"a": "\xff"}', r"the line is not UTF-8 \(its byte 8 is 0xff\)"),
            (b'{"a": "\xc3"}', "its byte 8 is 0xc3"),
            (b'{"a": "\0"}', r"the line is not text \(its character 8 is NUL, 0x00\)"),
            (b'{"a": "\\ud800"}', "half of a surrogate pair"),
            (b'{"a": "\\uDC00 x"}', "half of a surrogate pair"),
            (b'{"a": ' + b"[" * 100_000 + b"}", "too many lists"),
            (b'{"a": ' + b"1" * 5000 + b"}", "digits"),
        ],
    )
    def test_unreadable_json(self, write, line, reason):
        first, (number, error), last = read_table(write(b'{"a": 1}\n' + line + b'\n{"a": 2}\n', "x.jsonl"))
        assert (first, last) == ((1, {"a": 1}), (3, {"a": 2}))
        assert number == 2 and isinstance(error, Problem)
        assert re.search(reason, str(error))

    def test_plain_text(self, write):
        path = write("\ufeffa b\r\n\n\u2028c\r\r\nd", "x.txt")
        assert list(read_table(path)) == [(n, {"text": t}) for n, t in enumerate(["a b", "", "\u2028c\r", "d"], 1)]

    def test_long_lines(self, write, monkeypatch):
        monkeypatch.setattr(text_tables, "MAX_LINE_BYTES", 1 << 20)
        long = '{"a": "' + "x" * (5 << 19) + '"}'
        first, error, last = rows(write(f'{{"a": 1}}\n{long}\n{{"a": 2}}', "x.jsonl"))
        assert (first, last) == ({"a": 1}, {"a": 2})
        assert str(error) == "the line is too long (more than 1 MiB)"

    @pytest.mark.parametrize(
        ("content", "lines"),
        [
            ('[\n{"a": 1},\n{"a":\n2}\n]\n', [2, 3]),
            ('[{"a": 1}, {"a": 2}]', [1, 1]),
            (' \n[ {"a": 1},\n\n {"a": 2}] \n', [2, 4]),
            ("[\n]", []),
        ],
    )
    def test_a_json_array(self, write, content, lines):
        found = list(read_table(write(content, "x.json")))
        assert found == list(zip(lines, [{"a": 1}, {"a": 2}], strict=False))

    def test_items_of_a_json_array(self, write):
        content = '[["Paris", {"entities": []}], 5, {"a": "\\ud800"}]'
        found = rows(write(content, "x.json"))
        assert found[0] == {"text": "Paris", "entities": []}
        assert [str(problem) for problem in found[1:]] == [
            "the item is not a JSON object (it is '5')",
            "a: a text must be valid Unicode, without half of a surrogate pair (got '\\ud800')",
        ]

    def test_a_long_json_array_is_read_bit_by_bit(self, write, monkeypatch):
        monkeypatch.setattr(text_tables, "_NUM_PEEKED", 8)
        monkeypatch.setattr(text_tables, "MAX_LINE_BYTES", 200)
        items = [{"a": "x" * (number % 100)} for number in range(300)]
        content = json.dumps(items, indent=1)
        found = list(read_table(write(content, "x.json")))
        assert [row for _, row in found] == items
        assert [place for place, _ in found] == list(range(2, 902, 3))
        with pytest.raises(
            ValueError, match=r"x\.json:3: expected the next item of a JSON array \(Unterminated string"
        ):
            rows(write('[{"a": 1},\n\n{"a": "' + "x" * 10_000 + '"}]', "x.json"))

    def test_what_costs_one_item_of_a_json_array(self, write):
        content = b'[{"a": 1}, {"a": ' + b"1" * 5000 + b'}, {"a": "\xff"}, {"a": 1, "a": 2}, {"a": 2}]'
        found = rows(write(content, "x.json"))
        assert (found[0], found[-1]) == ({"a": 1}, {"a": 2})
        assert ["digits" in str(found[1]), "is not UTF-8" in str(found[2]), "twice" in str(found[3])] == [True] * 3

    def test_a_control_character_costs_one_item_of_a_json_array(self, write):
        found = rows(write('[{"a": "x\x01y"}, {"a": 2}]', "x.json"))
        assert "cannot be read as JSON (Invalid control character" in str(found[0]) and found[1] == {"a": 2}

    def test_what_stands_behind_a_json_array_is_not_lost(self, write):
        with pytest.raises(ValueError, match=r"x\.json:1: expected nothing behind the \] that ends the JSON array"):
            rows(write('[{"a": 1}]\n[{"a": 2}]', "x.json"))

    @pytest.mark.parametrize(
        ("content", "line"), [('[\n{"a": 1},\n{"a" 2}]', 3), ('[{"a": 1} {"a": 2}]', 1), ('[\n{"a": 1},\n', 3)]
    )
    def test_a_broken_json_array(self, write, content, line):
        with pytest.raises(ValueError, match=rf"x\.json:{line}: expected the next item of a JSON array \(Expecting"):
            rows(write(content, "x.json"))

    @pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.txt"])
    def test_utf_16(self, write, name):
        with pytest.raises(ValueError, match=f"{name}: expected UTF-8, got UTF-16"):
            rows(write("text\nParis".encode("utf-16"), name))

    def test_files_that_cannot_be_read(self, write, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"gone\.jsonl"):
            rows(tmp_path / "gone.jsonl")
        with pytest.raises(ValueError, match=r"x\.xlsx: expected a file ending in \.jsonl, .*\.parquet"):
            rows(write("", "x.xlsx"))

    @pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.txt"])
    def test_empty(self, write, name):
        assert rows(write("", name)) == []


class TestParquetAndArrow:
    def test_parquet(self, tmp_path):
        picture = {"bytes": b"\xff", "path": None}
        table = pa.table({"text": ["Paris", None, "\0"], "tags": [[1, 2], [], None], "image": [picture] * 3})
        pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
        assert list(read_table(tmp_path / "x.parquet")) == [
            (0, {"text": "Paris", "tags": [1, 2], "image": picture}),
            (1, {"text": None, "tags": [], "image": picture}),
            (2, {"text": "\0", "tags": None, "image": picture}),
        ]
        assert rows(tmp_path / "x.parquet", ["tags", "other"]) == [{"tags": tags} for tags in ([1, 2], [], None)]

    def test_features(self, tmp_path):
        features = datasets.Features({"ner_tags": datasets.List(datasets.ClassLabel(names=["O", "B-X", "I-X"]))})
        dataset = datasets.Dataset.from_dict({"ner_tags": [[0, 1]] * 3}, features=features)
        dataset.to_parquet(tmp_path / "x.parquet")
        dataset.save_to_disk(tmp_path / "saved")
        (path,) = find_tables(tmp_path / "saved").splits["train"]
        for file in (tmp_path / "x.parquet", path):
            assert table_features(file) == features
            assert rows(file) == [{"ner_tags": [0, 1]}] * 3
        assert table_features(tmp_path / "x.csv") == {}

    def test_a_type_that_datasets_does_not_have(self, tmp_path):
        column = pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int32()))
        pq.write_table(pa.table({"text": ["Paris"], "more": column}), tmp_path / "x.parquet")
        assert table_features(tmp_path / "x.parquet") == {"text": datasets.Value("string"), "more": None}
        assert rows(tmp_path / "x.parquet", ["text"]) == [{"text": "Paris"}]

    def test_a_value_that_is_no_utf_8(self, tmp_path):
        bad = pa.array([b"a", b"\xff", b"c"] * 200).view(pa.string())
        pq.write_table(pa.table({"text": bad}), tmp_path / "x.parquet")
        result = rows(tmp_path / "x.parquet")
        assert result[:1] + result[2:4] == [{"text": "a"}, {"text": "c"}, {"text": "a"}]
        assert [i for i, row in enumerate(result) if isinstance(row, Problem)] == list(range(1, 600, 3))
        assert "'utf-8' codec can't decode byte 0xff" in result[1].details

    @pytest.mark.parametrize("cut", [0, 3, 40, -1])
    @pytest.mark.parametrize("ending", ["parquet", "arrow"])
    def test_damaged(self, tmp_path, ending, cut):
        path = tmp_path / f"x.{ending}"
        table = pa.table({"text": ["Paris"] * 100})
        if ending == "parquet":
            pq.write_table(table, path)
        else:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table)
            cut = cut if cut >= 0 else -300
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(ValueError, match=rf"x\.{ending}: cannot be read as an? {ending.title()}"):
            rows(path)

    def test_absent(self, tmp_path):
        for read in (rows, table_features):
            with pytest.raises(FileNotFoundError, match=r"gone\.parquet"):
                read(tmp_path / "gone.parquet")

    def test_columns_of_one_name(self, tmp_path):
        pq.write_table(pa.table([[1], [2]], names=["a", "a"]), tmp_path / "x.parquet")
        with pytest.raises(ValueError, match=r"x\.parquet: .*columns \['a'\] are there twice"):
            rows(tmp_path / "x.parquet")


def test_places():
    assert place_of("a/x.CSV", 7) == "a/x.CSV:7"
    assert place_of("x.parquet", 7) == "x.parquet, row 7"


class TestProperties:
    @pytest.mark.parametrize("ending", ["jsonl", "csv", "txt", "parquet", "arrow"])
    @settings(deadline=None, max_examples=150)
    @given(data=st.data())
    def test_any_bytes_give_rows_or_a_clear_error(self, place, ending, data):
        pieces = st.sampled_from(
            [b'"', b",", b"\n", b"\r\n", b"{", b'{"a":1}\n', b"a,b\n", b"\xef\xbb\xbf", b"PAR1", b"\0"]
        )
        path = place / f"any.{ending}"
        path.write_bytes(b"".join(data.draw(st.lists(pieces | st.binary(max_size=30), max_size=12))))
        try:
            result = list(read_table(path))
        except ValueError as error:
            assert str(error).startswith(str(path)), error
            return
        places = [number for number, _ in result]
        assert places == sorted(set(places))
        assert all(isinstance(row, dict) or (isinstance(row, Problem) and row.kind) for _, row in result)

    @settings(deadline=None, max_examples=60)
    @given(data=st.data())
    def test_damaged_parquet_gives_rows_or_a_clear_error(self, place, data):
        buffer = io.BytesIO()
        pq.write_table(pa.table({"text": ["Paris", "b"] * 20, "n": [[1], None] * 20}), buffer)
        content = bytearray(buffer.getvalue())
        for index in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=5)):
            content[index] ^= data.draw(st.integers(1, 255))
        path = place / "damaged.parquet"
        path.write_bytes(content)
        try:
            assert all(isinstance(row, dict | Problem) for _, row in read_table(path))
        except ValueError as error:
            assert str(error).startswith(str(path)), error

    @settings(deadline=None)
    @given(st.lists(st.dictionaries(TEXT, JSON, max_size=4)), st.booleans(), st.sampled_from(["\n", "\r\n"]))
    def test_json_reads_the_same(self, place, written, ascii_only, end):
        path = place / "same.jsonl"
        path.write_bytes("".join(json.dumps(row, ensure_ascii=ascii_only) + end for row in written).encode())
        assert list(read_table(path)) == list(enumerate(written, 1))

    @settings(deadline=None)
    @given(st.lists(st.tuples(TEXT | st.none(), st.lists(TEXT), st.binary() | st.none()), min_size=1))
    def test_parquet_reads_the_same(self, place, written):
        schema = pa.schema({"text": pa.string(), "tokens": pa.list_(pa.string()), "image": pa.binary()})
        values = [dict(zip(schema.names, row, strict=True)) for row in written]
        pq.write_table(pa.Table.from_pylist(values, schema), place / "same.parquet")
        assert list(read_table(place / "same.parquet")) == list(enumerate(values))

    @settings(deadline=None)
    @given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"))))
    def test_plain_text_reads_the_same(self, place, written):
        (place / "same.txt").write_text("".join(f"{line}\n" for line in written), encoding="utf-8", newline="\n")
        assert rows(place / "same.txt") == [
            {"text": line.removeprefix("\ufeff") if not i else line} for i, line in enumerate(written)
        ]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path, ending):
    text, number = "x" * 1000, 20_000
    path = tmp_path / f"x.{ending}"
    if ending == "parquet":
        schema = pa.schema({"text": pa.string()})
        with pq.ParquetWriter(path, schema) as writer:
            for start in range(0, number, 1000):
                texts = [f"{start + i}{text}" for i in range(1000)]
                writer.write_table(pa.table({"text": texts}), row_group_size=1000)
    else:
        with open(path, "w") as file:
            file.write("text\n" if ending == "csv" else "")
            file.writelines(f"{text}\n" if ending == "csv" else f'{{"text": "{text}"}}\n' for _ in range(number))
    tracemalloc.start()
    try:
        assert sum(len(row["text"]) >= 1000 for _, row in read_table(path)) == number
        assert tracemalloc.get_traced_memory()[1] < 8 << 20  # of 20 MB
    finally:
        tracemalloc.stop()
