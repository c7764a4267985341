"""The rows of the shipped tables are options that train.py takes, and those of the demo table have models."""

from dataclasses import asdict, fields

import pytest

from ifaformer_commands.options.model_options import ModelArguments, ReadingArguments, TowerArguments, fill
from ifaformer_commands.table import SHIPPED, data_options
from modeling_ifaformer.comparison.table_file import BEFORE, Table, TableRow, read_table
from modeling_ifaformer.training import build_model, build_processor, start_options
from processing.data.demo.entity_tweets import DemoMNER
from processing.data.demo.relation_tweets import DemoRelations


DEMO = read_table(SHIPPED["demo"])


@pytest.fixture(scope="module")
def demo_rows(tmp_path_factory):
    sizes = {"num_train": 12, "num_validation": 0, "num_test": 0}
    rows = {}
    for name, builder_class in (("demo", DemoMNER), ("demo_re", DemoRelations)):
        builder = builder_class(cache_dir=str(tmp_path_factory.mktemp(name)), **sizes)
        builder.download_and_prepare()
        rows[name] = builder.as_dataset(split="train")
    return rows


@pytest.mark.parametrize("name", SHIPPED)
def test_train_takes_the_options_of_every_shipped_table(name):
    table = read_table(SHIPPED[name])
    assert data_options(table, name, {}).dataset == table.common["dataset"]


@pytest.mark.parametrize(
    ("common", "options", "before", "message"),
    [
        ({"learning_rat": 1}, {}, {}, "t, common: There is no option --learning_rat. Did you mean --learning_rate"),
        ({}, {"sistem": "umt"}, {}, "t, row a: There is no option --sistem. Did you mean --system"),
        ({}, {"system": "utm"}, {}, "t, row a: --system must be one of .*, got 'utm'"),
        ({}, {}, {"num_epochs": 2}, "t, row a, before: There is no option --num_epochs"),
        ({"seed": 1}, {}, {}, "t, common: Expected options other than seed, which table.py sets itself"),
        ({}, {}, {"output_dir": "x"}, "t, row a, before: Expected options other than output_dir"),
        (
            {},
            {"image_dir": "x", "strict": True},
            {},
            "t, row a: Expected no options of the data, got image_dir, s",
        ),
        ({"task": "re"}, {}, {}, "t, common: task must be ner, since a table compares entity models; got re"),
    ],
)
def test_what_cannot_be_an_option(common, options, before, message):
    row = TableRow("a", "A", options=options, before={"dataset": "demo_re", "task": "re"} | before)
    with pytest.raises(ValueError, match=message):
        data_options(Table("A table", "", {"dataset": "demo"} | common, [row]), "t", {})


def test_the_data_are_those_that_train_is_given():
    common = {"dataset": "tweets", "image_dir": "a", "tag_scheme": "BIOES", "strict": "yes", "data_dir": "b"}
    found = data_options(Table("A table", "", common, []), "t", {"data_dir": "c", "cache_dir": "d"})
    assert vars(found) == common | {"strict": True, "data_dir": "c", "cache_dir": "d", "task": "ner"}


def build(options, rows):
    """The model and the processor that train.py begins with."""
    towers, reading, of_model = (
        group(**{field.name: options[field.name] for field in fields(group) if field.name in options})
        for group in (TowerArguments, ReadingArguments, ModelArguments)
    )
    fill(start_options(None, towers.system), towers, reading, of_model)
    processor = build_processor(rows[options["dataset"]], **asdict(towers), **asdict(reading))
    return build_model(processor, **asdict(towers), **asdict(of_model)), processor


@pytest.mark.parametrize("row", DEMO.rows, ids=lambda row: row.key)
def test_each_row_of_the_demo_table_has_a_model(row, demo_rows, tmp_path):
    options = {**DEMO.common, **row.options}
    if row.before:
        for part in build({**DEMO.common, **row.before}, demo_rows):
            part.save_pretrained(tmp_path)
        options = {name: str(tmp_path) if value == BEFORE else value for name, value in options.items()}
    model, _ = build(options, demo_rows)
    assert model.config.text_attends_vision == (row.sees != "nothing")
    assert len(model.config.id2label) == 9
