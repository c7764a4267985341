import json
import re
import shutil

import pytest

from ifaformer_commands import score


def test_checkpoints_must_be_named(monkeypatch):
    monkeypatch.setattr("sys.argv", ["score.py"])
    with pytest.raises(SystemExit, match="--checkpoints runs/demo"):
        score.main()


def test_a_checkpoint_is_named_once(monkeypatch):
    monkeypatch.setattr("sys.argv", ["score.py", "--checkpoints", "runs/demo", "runs/other", "runs/demo"])
    with pytest.raises(SystemExit, match=r"^--checkpoints names runs/demo more than once"):
        score.main()


@pytest.mark.parametrize("options", [("--dataset", "demo_re"), ("--split", "validation"), ("--protocol", "both")])
def test_the_page_is_about_the_test_split_of_the_demo(monkeypatch, options):
    flags = ("--checkpoints", "runs/demo", "--demo_page", "index.html")
    monkeypatch.setattr("sys.argv", ["score.py", *flags, *options])
    with pytest.raises(SystemExit, match=rf"--demo_page works only with .*, got .*{' '.join(options)}.*Leave"):
        score.main()


def test_the_page_shows_the_figures_that_are_written(checkpoint, run_script, repository, tmp_path):
    options = ("--dataset", "demo", "--cache_dir", tmp_path, "--output", "scores.json", "--demo_page", "index.html")
    options += ("--errors", "errors.html")
    folder = shutil.copytree(checkpoint, tmp_path / "tagger-17")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {"thresholds": {"PER": 0.5}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    checkpoint = folder.name
    options += ("--shuffle_pictures", "--without_context", "--with_thresholds")
    result = run_script("score.py", "--checkpoints", checkpoint, *options, cwd=tmp_path)
    assert result.stdout.splitlines()[-1] == "index.html"
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    for way in ("with its thresholds", "pictures shuffled"):
        assert scores[f"{checkpoint} ({way})"]["difference"]["to"] == checkpoint
    left_out = f"There is no score of {checkpoint} (context left out): it reads no contexts, or the rows have none."
    assert left_out in result.stdout
    assert "95 % interval" in result.stdout and "difference" not in scores[checkpoint]
    shown = [of for name, of in scores.items() if "thresholds" not in name]
    assert re.findall(r"<b>([\d.]+)</b>", page) == [f"{100 * of['f1']:.1f}" for of in shown]
    errors = (tmp_path / "errors.html").read_text(encoding="utf-8")
    for name, of in scores.items():
        headed = rf"Errors of {re.escape(name)}, by the protocol word:\n\n"
        counts = re.search(rf"{headed}.*\nall +(.*)", result.stdout)[1].split()
        assert counts[0] == str(of["support"]) and counts[4] == f"{100 * of['f1']:.1f}"
        assert f"<td>{'</td><td>'.join(['all', *counts])}</td>" in errors
    assert "training words: every word seen" in errors and "<svg" in errors and str(tmp_path) not in errors
    assert page.count("<figure>") == 4 and str(tmp_path) not in page and checkpoint not in page
