import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from processing.data import load_data
from processing.data.own import tables
from processing.data.own.tables import read_table
from processing.data.stored_tables import BATCH_ROWS, check_stored_table, stored_batches


def repeated(value: str, times: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(times, np.int32)), pa.array([value]))


@pytest.mark.parametrize(
    "column",
    [
        repeated("word " * 20_000, 10_000),  # which Parquet stores once
        pa.ListArray.from_arrays(pa.array([0, 20_000_000], pa.int32()), repeated("a", 20_000_000)),
        pa.array(["a" * 100_000_000]),
        pa.nulls(20_000_000, pa.int8()),
    ],
    ids=["one value in every row", "a long list", "a long value", "rows of nothing"],
)
def test_parquet_that_unpacks_to_far_more_than_it_is(tmp_path, column):
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"text": column}), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 50_000
    before = pa.total_allocated_bytes()
    with pytest.raises(
        ValueError, match=r"train\.parquet: cannot be read as a Parquet file \(it unpacks to more than the 64 MiB"
    ):
        for _ in read_table(path):
            pass
    assert pa.total_allocated_bytes() - before < 1 << 28
    with pytest.raises(ValueError, match=r"train\.parquet: "):
        load_data(str(path), cache_dir=str(tmp_path))


def test_a_usual_file_is_read_in_few_batches(tmp_path):
    path = tmp_path / "train.parquet"
    rows = {"id": [str(number) for number in range(1000)], "tokens": [["Paris", "#x"]] * 1000, "text": ["same"] * 1000}
    pq.write_table(pa.table(rows), path)
    sizes = [batch.num_rows for batch in stored_batches(str(path))]
    assert max(sizes) == BATCH_ROWS and len(sizes) < 10


def arrow_file(path, table: pa.Table, damage=lambda data: data):
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    path.write_bytes(damage(stream.getvalue()))
    return path


def test_arrow_is_validated_before_a_value_is_read(tmp_path):
    offsets = np.array([0, 5, 10], np.int32).tobytes()
    outside = np.array([0, 2**30, 2**30 + 5], np.int32).tobytes()
    table = pa.table({"text": ["Paris", "Londo"]})
    path = arrow_file(tmp_path / "train.arrow", table, lambda data: data.replace(offsets, outside))
    for read in (lambda: list(read_table(path)), lambda: check_stored_table(str(path))):
        with pytest.raises(
            ValueError, match=r"train\.arrow: cannot be read as an Arrow stream, as `datasets` writes it \("
        ):
            read()
    arrow_file(path, table)
    assert [row for _, row in read_table(path)] == [{"text": "Paris"}, {"text": "Londo"}]


def test_a_name_of_a_column_that_is_no_text(tmp_path):
    path = tmp_path / "train.arrow"
    arrow_file(path, pa.table({"tokens": [["a"]]}), lambda data: data.replace(b"tokens", b"tok\xffns"))
    for read in (lambda: list(read_table(path)), lambda: load_data(str(path), cache_dir=str(tmp_path))):
        with pytest.raises(ValueError, match=r"train\.arrow: cannot be read as an Arrow stream.*'utf-8' codec"):
            read()


def test_a_row_that_is_too_large_costs_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_STORED_ROW_BYTES", 1000)
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"image": [b"x" * 100, b"x" * 2000, *[b"x" * 100] * 20]}), path)
    found = [row for _, row in read_table(path)]
    assert str(found.pop(1)) == "a value of the row cannot be read (the row has more than 0 MiB)"
    assert found == [{"image": b"x" * 100}] * 21


@pytest.mark.parametrize("is_parquet", [True, False], ids=["Parquet", "Arrow"])
def test_damaged_columns_of_pictures(tmp_path, is_parquet):
    """They are first read after the rows were counted."""
    rows = {"text": ["Paris", "Oslo"], "spans": [[{"start": 0, "end": 4, "label": "LOC"}]] * 2}
    table = pa.table({**rows, "image": ["abcde", "fghij"]})
    path = tmp_path / "train.parquet"
    if is_parquet:
        broken = pa.array([b"abcde", b"\xff\xff"]).view(pa.string())
        pq.write_table(table.set_column(2, "image", broken), path)
        data, report = load_data(str(path), cache_dir=str(tmp_path))
        assert len(data["train"]) == 1 and report.splits["train"].counts["rows_skipped"] == 1
        return
    path = tmp_path / "train.arrow"
    arrow_file(path, table, lambda data: data.replace(b"abcdefghij", b"\xff" * 10))
    with pytest.raises(
        ValueError, match=r"train\.arrow: cannot be read as an Arrow stream, as `datasets` writes it \("
    ):
        load_data(str(path), cache_dir=str(tmp_path))
