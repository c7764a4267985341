import json
import time

import pytest


def test_figures_of_a_small_run(run_script, shared, tmp_path):
    output = tmp_path / "figures.json"
    sample = shared / "data" / "sample" / "twitter2017"
    printed = run_script(
        "benchmark.py",
        *("--dataset", "twitter2017", "--data_dir", sample, "--cache_dir", tmp_path, "--output", output),
        *("--num_tweets", "10", "--baseline_tweets", "5", "--repeats", "1", "--split", "train"),
    ).stdout
    figures = json.loads(output.read_text())["data"]
    assert (figures["tweets"], figures["pictures"]) == (10, 36)
    # ids and masks of a few bytes beside whole pictures of 224 and crops of 128 and 64 pixels
    assert figures["bytes a tweet on disk"] == pytest.approx(
        (10 * 224**2 + 14 * 128**2 + 12 * 64**2) * 3 / 10, rel=0.02
    )
    assert figures["ratios"]["published way, pictures"] == 1
    measured = {name for name, figure in figures.items() if isinstance(figure, dict) and "per_second" in figure}
    assert measured == set(figures["ratios"]) and all(name in printed for name in measured)


def test_rates_and_memory(script_module):
    benchmark = script_module("benchmark")
    kept = []

    def run():
        kept.append(bytearray(80_000_000))
        time.sleep(0.2)
        kept.clear()

    figures = benchmark.measure(2, 50, run)
    assert 0 < figures["lowest"] <= figures["per_second"] <= figures["highest"] <= 250
    assert figures["peak_memory_mb"] - figures["memory_before_mb"] > 60
