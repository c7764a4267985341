import configparser
import json
import subprocess
import sys
from importlib import import_module

import pytest

from ifaformer_commands.__main__ import commands, main


# An option that is not there is refused, then `--help` is shown, and what has been imported is told.
LOOK_FOR_HELP = """
import json, runpy, sys
from contextlib import redirect_stdout

script = sys.argv[1]
with redirect_stdout(sys.stderr):
    for flag in ("--no_such_option", "--help"):
        sys.argv = [script, flag]
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            assert end.code == (0 if flag == "--help" else 2), end.code
print(json.dumps(sorted(sys.modules)))
"""


@pytest.fixture
def call(monkeypatch, capsys):
    """`call("score", "--help")` -> what the console command ends with, and what it prints."""

    def run(*arguments, program="/usr/bin/ifaformer"):
        monkeypatch.setattr("sys.argv", [program, *arguments])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("name", commands())
def test_help_imports_nothing_heavy(repository, name):
    """What takes seconds is imported only where there is something to do."""
    program = [sys.executable, "-c", LOOK_FOR_HELP, repository / "scripts" / f"{name}.py"]
    result = subprocess.run(program, capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    refusal, usage = result.stderr.splitlines()[:2]
    assert refusal.startswith("There is no option --no_such_option.")
    assert usage.startswith(f"usage: {name}.py ")
    heavy = {"torch", "datasets", "processing", "hub_card", "matplotlib", "sklearn"}
    if name == "train":
        # Its options are those of the Trainer, which imports torch (in transformers 5.20 sklearn too), in a room that
        # registers the processor.
        heavy -= {"torch", "sklearn", "processing"}
    assert heavy.intersection(json.loads(result.stdout)) == set()


def test_the_commands_are_listed(call):
    code, shown, _ = call("--help")
    assert code == 0 and call() == (0, shown, "")
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in shown.splitlines() if line.startswith("  ")}
    assert {"train", "score", "predict", "prepare_crops", "inspect_data", "push_to_hub", "benchmark"} <= lines.keys()
    assert lines["train"].startswith("Train IFAformer") and all(line.endswith(".") for line in lines.values())
    assert "command_line" not in lines


def test_a_command_is_called_as_its_script_is(call):
    code, shown, _ = call("inspect_data", "--help")
    assert code == 0 and shown.startswith("usage: ifaformer inspect_data ")
    code, shown, _ = call("inspect_data", "--help", program="/lib/ifaformer_commands/__main__.py")
    assert code == 0 and shown.startswith("usage: python -m ifaformer_commands inspect_data ")
    code, _, said = call("inspect_data", "--num_sample", "3")
    assert (code, said) == (2, "There is no option --num_sample. Did you mean --num_samples?\n")


@pytest.mark.parametrize("name, hint", [("trian", "Did you mean train?"), ("qqqq", "The commands are benchmark, ")])
def test_a_mistyped_command_names_its_neighbours(call, name, hint):
    code, _, said = call(name)
    (line,) = said.splitlines()
    assert code == 2 and line.startswith(f"There is no command {name}. ") and hint in line


def test_the_installed_command_is_there(repository):
    setup = configparser.ConfigParser()
    setup.read(repository / "setup.cfg", encoding="utf-8")
    name, target = setup["options.entry_points"]["console_scripts"].strip().split(" = ")
    module, function = target.split(":")
    assert name == "ifaformer" and getattr(import_module(module), function) is main


def test_without_torch_a_command_says_what_can_be_done(monkeypatch, capsys):
    monkeypatch.setattr("ifaformer_commands.__main__.find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["ifaformer", "predict", "--model", "exported/demo"])
    with pytest.raises(SystemExit):
        main()
    assert "ifaformer predict needs torch and transformers" in capsys.readouterr().err
