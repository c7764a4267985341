"""The file of a table, and what is wrong with one."""

import pytest
import yaml

from ifaformer_commands.table import SHIPPED, TABLES
from modeling_ifaformer.comparison.table_file import read_table


SHIPPED_HERE = {"demo": SHIPPED["demo"]}
ROW = {"name": "BERT-CRF", "options": {"text_attends_vision": False}}
TABLE = {"title": "A table", "note": "It ranks nothing.", "common": {"dataset": "demo"}, "rows": {"bert": ROW}}


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "table.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        return str(path)

    return write


@pytest.mark.parametrize("path", sorted(TABLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_tables_are_read(path):
    table = read_table(str(path))
    assert len(table.rows) > 1


def test_rows_are_chosen_in_the_order_of_the_table(write):
    rows = dict.fromkeys(("a", "b", "c"), ROW)
    table = read_table(write(TABLE | {"rows": rows}))
    assert [row.key for row in table.chosen(["c", "a"])] == ["a", "c"]
    assert table.chosen(None) == table.rows
    with pytest.raises(ValueError, match=r"no row d\. Its rows are a, b, c"):
        table.chosen(["a", "d"])


def test_what_a_row_needs(write, tmp_path):
    needs = {str(tmp_path): "This is there.", str(tmp_path / "no"): "It needs the weights of somebody."}
    (row,) = read_table(write(TABLE | {"rows": {"mtb": {**ROW, "needs": needs}}})).rows
    assert row.missing == ["It needs the weights of somebody."]


def test_a_table_over_another_one(write, tmp_path):
    published = {"published": {"f1": 80.0}, "source": "somebody"}
    rows = {"bert": ROW | published, "umt": {**ROW, "options": {"system": "umt", "seed": 1}}}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(TABLE | {"rows": rows}), encoding="utf-8")
    own = {"title": "Another", "note": "Of other data.", "base": "base.yaml", "common": {"num_train_epochs": 3}}
    table = read_table(write({**own, "rows": {"umt": {"options": {"seed": 2}, "note": "x"}, "c": ROW}}))
    assert table.common == {"dataset": "demo", "num_train_epochs": 3}
    bert, umt, new = table.rows
    assert bert.options == ROW["options"] and bert.published == {} and bert.source == ""
    assert umt.options == {"system": "umt", "seed": 2} and umt.note == "x" and new.key == "c"
    assert [row.key for row in read_table(write(own)).rows] == ["bert", "umt"]
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
    with pytest.raises(ValueError, match=r"base must be a table that has no base itself, got .*base\.yaml"):
        read_table(write(own))
    with pytest.raises(ValueError, match=r"base must be demo or a file beside this one, got none\.yaml, which is not"):
        read_table(write(own | {"base": "none.yaml"}), SHIPPED_HERE)
    table = read_table(write({"base": "demo", "common": {"seed": 3}}), SHIPPED_HERE)
    assert table.title == read_table(SHIPPED_HERE["demo"]).title and table.common["seed"] == 3
    with pytest.raises(ValueError, match=r"row brt \(the base has cnn_bilstm, .*: Expected name, opt"):
        read_table(write({"base": "demo", "rows": {"brt": {"options": {}}}}), SHIPPED_HERE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("rows: [", "Expected YAML in UTF-8"),
        ("- a", "Expected the keys title, note, common, rows, and maybe base, got list"),
        ({**TABLE, "more": 1}, "got .*more"),
        ({**TABLE, "common": []}, "common must be a mapping, got list"),
        ({**TABLE, "rows": {}}, "at least one row"),
        ({**TABLE, "rows": {"../a": ROW}}, r"row \.\./a: The key of a row is the name of a folder"),
        ({**TABLE, "rows": {"a": {"name": "A"}}}, "row a: Expected name, options"),
        ({**TABLE, "rows": {"a": {**ROW, "sold": 1}}}, "row a: Expected name, options .*sold"),
        ({**TABLE, "rows": {"a": {**ROW, "needs": ["x"]}}}, "row a: needs must be a mapping, got list"),
        (
            {**TABLE, "rows": {"a": {**ROW, "published": {"f1": 80}}}},
            "row a: published must have f1, .* beside a source",
        ),
        (
            {**TABLE, "rows": {"a": {**ROW, "needs": {"x": 1}}}},
            "row a: needs must have a sentence for each path",
        ),
        *(
            ({**TABLE, "rows": {"a": {**ROW, "published": published, "source": "x"}}}, "row a: published must have f1")
            for published in ({"F": 80}, {"f1": True}, {"f1": 0.85}, {"f1": 101}, {"f1": "80"})
        ),
        *(
            ({**TABLE, "rows": {"a": {**ROW, name: 1}}}, f"row a: {name} must be a text, got int")
            for name in ("name", "source", "note")
        ),
        ({**TABLE, "common": {"seed": 1}}, "common must name the dataset"),
    ],
)
def test_what_is_no_table(write, content, message):
    path = write(content)
    with pytest.raises(ValueError, match=message) as error:
        read_table(path)
    assert str(error.value).startswith(path)
