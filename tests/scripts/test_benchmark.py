import json
import sys
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torchcrf import CRF

from ifaformer_commands import benchmark
from ifaformer_commands.benchmark import BenchmarkArguments
from ifaformer_commands.benchmarks import commands, measuring, published, systems
from ifaformer_commands.benchmarks.systems import measured_rows
from ifaformer_commands.benchmarks.work import Work, lend_pictures
from modeling_ifaformer.comparison.table_file import read_table
from modeling_ifaformer.configuration_baseline import SYSTEMS


TOWER = json.dumps({"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 37})
TOWERS = ("--text_config", TOWER, "--vision_config", TOWER)


@pytest.fixture
def run_benchmark(run_script, shared, tmp_path):
    """`run_benchmark("--parts", ...)` -> the figures and what was printed, of the sample's five training tweets."""

    def run(*arguments):
        output = tmp_path / "figures.json"
        printed = run_script(
            "benchmark.py",
            *("--dataset", "twitter2017", "--data_dir", shared / "data" / "sample" / "twitter2017"),
            *("--cache_dir", tmp_path, "--output", output, "--repeats", "1", "--split", "train", *arguments),
        ).stdout
        return json.loads(output.read_text()), printed

    return run


def test_data(run_benchmark):
    results, printed = run_benchmark("--parts", "data", "--num_tweets", "10", "--baseline_tweets", "5")
    figures = results["data"]
    assert (figures["tweets"], figures["pictures"]) == (10, 36)
    # ids and masks of a few bytes beside whole pictures of 224 and crops of 128 and 64 pixels
    assert figures["bytes a tweet on disk"] == pytest.approx(
        (10 * 224**2 + 14 * 128**2 + 12 * 64**2) * 3 / 10, rel=0.02
    )
    runs = figures["comparison"]["runs"]
    assert runs["published way"]["times_baseline"]["median"] == 1
    assert {"prepare, 2 processes", "read, 0 workers"} < runs.keys() and all(name in printed for name in runs)
    for name in runs:
        before, peak = figures[f"MB before and at the peak: {name}"]
        assert 0 < before <= peak
    assert all(peak["median"] > 1e6 for peak in results["machine"]["peaks"].values())


def test_serving(run_benchmark, checkpoint):
    parts = ("--parts", "serving", "--batch_size", "3", "--num_batches", "1")
    for arguments in ((*parts, *TOWERS), (*parts, "--served_model", checkpoint)):
        results, printed = run_benchmark(*arguments)
        figures = results["serving"]
        assert figures["requests"] == 3
        assert 0 <= figures["largest difference of a score between 1 client and 32"] < 1e-4
        assert set(figures["clients"]["runs"]) == {"1 client", "32 clients"}
        hostile = ("200 stalled clients", "picture bombs", "100 MB")
        assert set(figures["hostile"]["runs"]) == {
            "8 clients alone",
            *(f"8 clients beside {name}" for name in hostile),
        }
        assert "8 clients beside picture bombs" in printed


def test_models_and_growth(run_benchmark, tmp_path):
    parts = ("forward", "inference", "exported", "training", "crf", "growth")
    results, printed = run_benchmark(
        *("--parts", *parts, *TOWERS, "--batch_size", "3", "--num_tweets", "10", "--max_rows", "1000"),
        *("--figures", tmp_path / "figures"),
    )
    assert set(results) == {"machine", *parts}
    figures = results["forward"]
    # of the five tweets and the first of them again, drawn in another order
    assert 1 <= figures["crops_a_tweet"]["aux"] <= 2 and 10 < figures["tokens_a_text"] < 40
    comparisons = [figures["comparison"], figures["share_of_peak"], *results["crf"].values()]
    comparisons += [results[part]["comparison"] for part in ("inference", "exported", "training")]
    for comparison in comparisons:
        assert comparison["runs"][comparison["baseline"]]["times_baseline"]["median"] == 1
        assert all(name in printed for name in comparison["runs"])
        assert "published way" in comparison["runs"] or len(comparison["runs"]) == 2
    assert 0 < figures["share_of_peak"]["runs"]["IFAformer"]["times_baseline"]["median"] < 1
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == set(results["growth"])
    for name, curve in results["growth"].items():
        assert len(curve["x"]) == len(curve["seconds"]) == len(curve["memory_mb"]) > 2
        assert Image.open(tmp_path / "figures" / f"{name}.png").size[0] > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--device", "foo"), "--device must be a device of this machine"),
        (("--tokenizer", "nope"), "load the files"),
        (("--batch_size", "0"), "batch_size must be at least 1, got 0"),
        (("--text_config", '{"hidden_size": 25}'), r"hidden_size \(25\) of the text tower must be a multiple"),
        (("--output", "/dev/full"), "No space left"),
    ],
)
def test_what_is_wrong_becomes_the_last_line(monkeypatch, shared, tmp_path, arguments, message):
    monkeypatch.setattr(measuring, "machine", lambda *options: {})
    monkeypatch.chdir(tmp_path)
    sample = str(shared / "data" / "sample" / "twitter2017")
    flags = ("--dataset", "twitter2017", "--data_dir", sample, "--split", "train", "--cache_dir", str(tmp_path))
    name, value = arguments
    small = {"--batch_size": "2", "--text_config": TOWER, "--vision_config": TOWER, name: value}
    small |= {"--parts": "forward", "--repeats": "1", "--num_batches": "1"}
    monkeypatch.setattr("sys.argv", ["benchmark.py", *flags, *(word for each in small.items() for word in each)])
    with pytest.raises(SystemExit, match=message):
        benchmark.main()


class TestMeasuring:
    def test_rates_are_compared_within_a_round(self, monkeypatch):
        now = [0.0]
        clock = SimpleNamespace(perf_counter=lambda: now[0], process_time=lambda: now[0] / 2)
        monkeypatch.setattr(measuring, "time", clock)
        takes = iter([9, 9, 2, 6, 4, 12])  # a warm-up, then a machine that gets twice as slow

        def call():
            now[0] += next(takes)

        comparison = measuring.compare(dict.fromkeys(("one", "other"), (1, call)), "one", 2, "naps")
        other = comparison["runs"]["other"]
        third = pytest.approx({"median": 1 / 3, "lowest": 1 / 3, "highest": 1 / 3})
        assert other["times_baseline"] == third and other["times_baseline_by_cpu_time"] == third
        assert other["per_second"] == pytest.approx({"median": 1 / 8, "lowest": 1 / 12, "highest": 1 / 6})
        shown = measuring.run_line("other", other, "naps")
        assert "; 0.33 times the baseline's rate (0.33 to 0.33), 3.00 times its cost (3.00 to 3.00)" in shown

    def test_memory(self, finish, tmp_path):
        """In a process of its own: one that ran other tests may hold freed memory, and take it again."""
        program = (
            "import time; from ifaformer_commands.benchmarks.measuring import PeakMemory\n"
            "deadline = time.monotonic() + 60\n"
            "with PeakMemory() as memory:\n"
            "    kept = b'x' * 80_000_000\n"  # touched, unlike zeros
            "    while memory.peak - memory.start < 60 and time.monotonic() < deadline: time.sleep(0.02)\n"
            "    del kept\n"
            "print(memory.peak - memory.start)\n"
        )
        (tmp_path / "memory.py").write_text(program)
        assert 60 < float(finish([sys.executable, tmp_path / "memory.py"]).stdout) < 120

    def test_operations_of_a_matrix_product(self):
        units, call = measuring.matrix_product("cpu", torch.float32, size=64)
        assert units == 2 * 64**3 and call().shape == (64, 64)


@pytest.fixture
def work(shared, tmp_path):
    tower = json.loads(TOWER)
    options = BenchmarkArguments(
        dataset="twitter2017",
        data_dir=str(shared / "data" / "sample" / "twitter2017"),
        cache_dir=str(tmp_path),
        text_config=tower,
        vision_config=tower,
        batch_size=4,
    )
    data, _ = options.load()
    return Work(options, data["train"])


def test_pictures_are_lent_in_turn(work):
    rows = work.rows
    texts = rows.select([0, 1, 2, 3, 4, 0, 1])
    lent = lend_pictures(texts, rows.select([2, 0]))
    assert lent["tokens"] == texts["tokens"]
    assert [len(crops) for crops in lent["rcnn_crops"]] == [
        len(rows[number]["rcnn_crops"]) for number in [2, 0] * 3 + [2]
    ]


def test_the_published_way(work):
    """Zeros for absent crops, texts cut and padded, the vision tower in full, tags in each step."""
    batches = work.padded_texts()
    assert [tuple(batch["input_ids"].shape) for batch in batches] == [(4, 40), (4, 40)]
    rows = work.sample.select(range(4))
    pictures = published.open_pictures(rows, work.processor)
    ours = work.batches()[0]
    for kind in ("aux", "rcnn"):
        number = ours[f"{kind}_pixel_values"].shape[1]
        torch.testing.assert_close(
            pictures[f"{kind}_pixel_values"][:, :number], ours[f"{kind}_pixel_values"], rtol=0, atol=1e-5
        )
        assert pictures[f"{kind}_pixel_values"].shape[1] == 3
    tagger = published.PublishedTagger(work).eval()
    assert isinstance(tagger.crf, CRF)
    last = tagger.ifaformer.vision_model.encoder.layers[-1].mlp
    calls = []
    last.register_forward_hook(lambda *args: calls.append("last layer"))
    tagger.ifaformer.vision_model.embeddings.patch_embedding.register_forward_hook(lambda *args: calls.append("conv"))
    loss, tags = tagger(**batches[0], **pictures)
    assert loss > 0 and [len(row) for row in tags] == batches[0]["attention_mask"].sum(dim=1).tolist()
    assert calls == ["conv", "conv", "last layer"]


class TestSystems:
    def test_all_rows_with_the_towers_of_the_table_are_measured(self):
        rows = {row.key for row in measured_rows(read_table(str(systems.TABLE)))}
        assert rows >= {"bert", "ifaformer", "ifaformer_without_crops", "co_attention_corrected", *SYSTEMS}, (
            "name its checkpoints in TOWERS"
        )
        assert not rows & {"mtb", "strong_text"}, "of other weights, which are not there, or another size"

    def test_against_bert(self, work, monkeypatch):
        """The rows of the demo, whose towers are small."""
        monkeypatch.setattr(systems, "TABLE", systems.TABLE.with_name("demo.yaml"))
        work.options.repeats = 2
        figures = systems.measure_systems(work)
        assert figures.keys() == {"training", "inference"}
        names = [row.name for row in read_table(str(systems.TABLE)).rows if row.key != "relation_weights"]
        for comparison in figures.values():
            assert comparison["baseline"] == "BERT-CRF" and list(comparison["runs"]) == names
            of_bert = comparison["runs"]["BERT-CRF"]
            assert of_bert["times_baseline"]["median"] == of_bert["times_baseline_by_cpu_time"]["median"] == 1

    def test_a_model_is_made_and_reads_as_in_training(self, work):
        towers = {"text_model": "bert-base-uncased", "vision_model": "openai/clip-vit-base-patch32"}
        umt = systems.System(work, {**towers, "system": "umt", "learning_rate": 1})
        model = systems.build_model(umt.processor, **umt.towers, **asdict(umt.model_options))
        assert model.config.system == "umt" and model.config.vision_config.hidden_size == 24
        assert model.config.text_config.vocab_size == len(work.processor.tokenizer)
        made = {
            "umt": umt,
            "ifaformer": systems.System(work, towers),
            "bert": systems.System(work, {**towers, "text_attends_vision": False}),
            "cnn_bilstm": systems.System(work, {"system": "cnn_bilstm"}),
        }
        columns = {name: system.batches[0].keys() for name, system in made.items()}
        assert {name for name in made if "pixel_values" in columns[name]} == {"umt", "ifaformer"}
        assert {name for name in made if "aux_pixel_values" in columns[name]} == {"ifaformer"}
        assert {name for name in made if "byte_ids" in columns[name]} == {"cnn_bilstm"}
        assert all("labels" in batch and "crf_mask" in batch for system in made.values() for batch in system.batches)


def test_first_prediction(work, tmp_path):
    work.ifaformer().save_pretrained(tmp_path)
    work.processor.save_pretrained(tmp_path)
    commands.python("-c", commands.PREDICT, tmp_path)


def test_two_processes(work, repository, run_script, monkeypatch, tmp_path):
    def launch(*command, **variables):
        """Starts what the launcher would. In test_train.py the launcher itself starts, by the same configuration."""
        *launcher, config = command[:4]
        assert launcher == ["-m", "accelerate.commands.launch", "--config_file"]
        assert config == repository / "scripts" / "accelerate" / "cpu.yaml"
        run_script(*command[4:], processes=2, variables=variables)

    monkeypatch.setattr(commands, "python", launch)
    assert commands.train(work, 2, str(tmp_path)) > 0
    results = json.loads((tmp_path / "run-2" / "results.json").read_bytes())
    assert results["hardware"]["num_processes"] == 2
