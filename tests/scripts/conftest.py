"""What the tests of the commands share: run a script as a user would, in a process of its own."""

import importlib
import os
import subprocess
import sys

import pytest


@pytest.fixture
def run_script(repository):
    """
    `run_script("predict.py", "--flag", ...)` -> the finished process; fails the test on another exit code. With
    `processes`, accelerate starts that many by the configuration that is shipped, or by `config`.
    """

    def run(script, *arguments, cwd=None, exit_code=0, processes=1, config=None):
        config = config or repository / "scripts" / "accelerate" / "cpu.yaml"
        launcher = ["-m", "accelerate.commands.launch", "--config_file", config, "--num_processes", str(processes)]
        result = subprocess.run(
            [
                sys.executable,
                *(launcher if processes > 1 else ()),
                repository / "scripts" / script,
                *map(str, arguments),
            ],
            cwd=cwd,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
        )
        assert result.returncode == exit_code, result.stderr[-4000:]
        return result

    return run


@pytest.fixture
def script_module(repository, monkeypatch):
    """A script as a module, for what needs no process of its own."""
    monkeypatch.syspath_prepend(str(repository / "scripts"))
    return importlib.import_module
