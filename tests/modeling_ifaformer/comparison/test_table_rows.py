"""The rows of the shipped tables are options that train.py takes, and those of the demo table have models."""

import os
from dataclasses import asdict, fields
from types import SimpleNamespace

import pytest

from ifaformer_commands.options.model_options import ModelArguments, ReadingArguments, TowerArguments, fill
from ifaformer_commands.table import SHIPPED, data_options
from modeling_ifaformer import IFAformerConfig
from modeling_ifaformer.comparison import table_rows
from modeling_ifaformer.comparison.table_file import BEFORE, Table, TableRow, read_table
from modeling_ifaformer.comparison.table_rows import RowRuns, check_kept, sees
from modeling_ifaformer.training import build_model, build_processor, start_options
from processing.data.demo.entity_tweets import DemoMNER
from processing.data.demo.relation_tweets import DemoRelations
from processing.jobs.atomic_files import write_json


DEMO = read_table(SHIPPED["demo"])
SEEN = dict.fromkeys(("cnn_bilstm", "bert", "relation_weights"), "nothing")
SEEN |= dict.fromkeys(("co_attention", "co_attention_corrected", "visual_bert", "vilbert", "umt"), "whole picture")
SEEN |= {"hvpnet": "whole picture and aux crops", "ifaformer_without_crops": "whole picture"}
SEEN |= dict.fromkeys(("mkgformer", "ifaformer"), "whole picture and crops")


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
    assert sees(model.config) == SEEN[row.key]
    assert len(model.config.id2label) == 9


def test_what_a_model_sees():
    deepke = {"attention_variant": "deepke"}
    assert sees(IFAformerConfig(**deepke)) == "crops"
    assert sees(IFAformerConfig(**deepke, num_aux_crops=0)) == "rcnn crops"


DIGESTS = {"test": {"rows": 1, "digest": "a"}}


@pytest.fixture
def row_runs(monkeypatch, tmp_path):
    """`row_runs(options, seeds, ...)` -> a row in the same folder, whose trainings leave results and no more."""
    trained, scored = [], []

    def train(folder, options):
        trained.append(options)
        for seed in options.get("seeds", ()):
            results = {"test": METRICS, "validation": METRICS, "num_parameters": 2, "num_trainable_parameters": 1}
            results |= {"train_seconds": 3, "mixed_precision": "bf16" if options.get("bf16") else "no"}
            results["arguments"] = {"training": {"per_device_eval_batch_size": 5}}
            path = folder / "run" / f"seed-{seed}" / "results.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(results, path)
        return ""

    def score(checkpoints, rows, protocols, shuffle_seed, **options):
        scored.append(options)
        return {" [word]": METRICS, " [published]": METRICS}

    config = IFAformerConfig(text_attends_vision=False)
    monkeypatch.setattr(table_rows, "_train", train)
    monkeypatch.setattr(table_rows, "load_checkpoint", lambda *_: (SimpleNamespace(config=config), None))
    monkeypatch.setattr(table_rows, "score_checkpoints", score)

    def make(options=None, seeds=(1,), digests=DIGESTS, **of_row):
        row = TableRow("a", "A", options=options or {}, **of_row)
        return RowRuns(row, {"dataset": "demo", "cache_dir": "c"}, tmp_path / "out" / "a", seeds, digests)

    make.trained, make.scored = trained, scored
    return make


METRICS = {"precision": 0.5, "recall": 0.5, "f1": 0.5}


def test_a_row_is_kept_while_its_settings_are_the_same(row_runs, tmp_path):
    assert "Not run yet" in row_runs().told()["not_run"]
    row_runs().run(None)
    figures = row_runs().told()
    assert figures["word"]["f1"]["values"] == [0.5]
    row_runs({"logging_steps": 3}).run(None)
    assert len(row_runs.trained) == 1, "what only says where and how fast it is trained may differ"
    for other, said in (
        (row_runs({"learning_rate": 1}), "learning_rate: None before, 1 now"),
        (row_runs(seeds=[2, 3]), r"seeds: \[1\] before, \[2, 3\] now"),
        (row_runs(digests={"test": {"rows": 1, "digest": "b"}}), "other data"),
        (row_runs(before={"task": "re"}), "before: task: None before, re now"),
    ):
        with pytest.raises(ValueError, match=rf"{said}\)\. Nothing was trained"):
            check_kept([other])
        assert "What is kept of it has other settings" in other.told()["not_run"]
    check_kept([row_runs(needs={str(tmp_path / "no"): "It needs this."}, options={"learning_rate": 1})])
    assert row_runs(needs={str(tmp_path / "no"): "It needs this."}).told() == figures, "finished figures stay"

    more = row_runs(seeds=[1, 2])
    check_kept([more])
    assert not more.is_kept and more.told() == figures, "until it is run again, that of fewer seeds stands"
    more.run(None)
    assert row_runs(seeds=[2, 1]).told()["word"]["f1"]["values"] == [0.5, 0.5]
    with pytest.raises(ValueError, match=r"seeds: \[1, 2\] before, \[1\] now"):
        check_kept([row_runs()])


def test_what_an_earlier_version_kept_is_refused(row_runs, tmp_path):
    (tmp_path / "out" / "a").mkdir(parents=True)
    write_json({"settings": "0a1b", "figures": {}}, tmp_path / "out" / "a" / "row.json")
    with pytest.raises(ValueError, match="an earlier version of this program made it"):
        check_kept([row_runs()])
    assert "an earlier version" in row_runs().told()["not_run"]


def test_a_row_is_not_kept_where_a_file_has_changed(row_runs, tmp_path):
    vectors, tower = tmp_path / "vectors.txt", tmp_path / "tower"
    tower.mkdir()
    options = {"word_vectors": str(vectors), "text_model": str(tower)}
    vectors.write_text("a 1")
    (tower / "config.json").write_text("{}")
    row_runs(options, before={"text_model": str(tower)}).run(None)
    vectors.write_text("a 2")
    assert row_runs(options, before={"text_model": str(tower)}).changes == "other content of word_vectors"
    vectors.write_text("a 1")
    (tower / "config.json").write_text('{"a": 1}')
    changes = "other before: content of text_model; other content of text_model"
    assert row_runs(options, before={"text_model": str(tower)}).changes == changes
    vectors.unlink()
    (tower / "config.json").write_text("{}")
    assert row_runs(options, before={"text_model": str(tower)}).is_kept, "what is gone has not changed"


def test_a_row_is_scored_as_it_was_trained(row_runs):
    for bf16, precision in ((True, "bf16"), (False, "no")):
        row = row_runs({"bf16": bf16})
        row.kept = {}
        row.run(None)
        assert row_runs.scored[-1] == {"batch_size": 5, "cache_dir": "c", "mixed_precision": precision}


def test_one_gpu_is_shown(monkeypatch):
    for before, after in ((None, "0"), ("3,1", "3"), ("", "")):
        with monkeypatch.context() as patch:
            patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
            if before is not None:
                patch.setenv("CUDA_VISIBLE_DEVICES", before)
            table_rows.use_one_gpu()
            assert os.environ["CUDA_VISIBLE_DEVICES"] == after
