"""The rows of the shipped tables are options that train.py takes."""

from dataclasses import asdict, fields

import pytest

from ifaformer_commands.options.model_options import ModelArguments, ReadingArguments, TowerArguments, fill
from ifaformer_commands.table import SHIPPED
from modeling_ifaformer.comparison.table_file import BEFORE, read_table
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
