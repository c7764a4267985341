"""What the tests of the commands share: run a script as a user would, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


TIME_LIMIT = 600  # seconds for one command, far above what one needs on a machine that is busy


@pytest.fixture(scope="session")
def fork_server():
    """See fork_server.py."""
    command = [sys.executable, Path(__file__).with_name("fork_server.py")]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as server:
        yield server
        server.kill()  # it has nothing to finish, and might wait for a command


@pytest.fixture(scope="session")
def finish(fork_server, tmp_path_factory):
    """
    `finish([sys.executable, "script.py", "--flag", ...])` -> the finished process; fails the test on another exit code
    than `exit_code`.
    """

    def environment():
        of_test = {"PYTEST_CURRENT_TEST": "", "PYTHONIOENCODING": "utf-8"}
        return {**os.environ, **of_test}

    of_server = environment()

    def run(command, exit_code=0, cwd=None):
        command = list(map(str, command))
        if not command[1].endswith(".py") or environment() != of_server:  # what is imported would not see the change
            options = {"capture_output": True, "encoding": "utf-8", "stdin": subprocess.DEVNULL}
            result = subprocess.run(command, cwd=cwd, env=environment(), timeout=TIME_LIMIT, **options)
        else:
            folder = tmp_path_factory.mktemp("process")
            files = [folder / "stdout", folder / "stderr"]
            job = {"argv": command[1:], "cwd": str(cwd or Path.cwd()), "seconds": TIME_LIMIT}
            job |= {file.name: str(file) for file in files}
            fork_server.stdin.write(json.dumps(job) + "\n")
            fork_server.stdin.flush()
            returned = fork_server.stdout.readline()
            assert returned, f"the fork server has ended: {fork_server.wait()}"
            result = subprocess.CompletedProcess(command, int(returned), *(file.read_text("utf-8") for file in files))
        assert result.returncode == exit_code, result.stderr[-4000:]
        return result

    return run


@pytest.fixture
def run_script(repository, finish):
    """
    `run_script("predict.py", "--flag", ...)` -> the finished process, as `finish`. With `processes`, accelerate starts
    that many by the configuration that is shipped, or by `config`.
    """

    def run(script, *arguments, processes=1, config=None, **options):
        config = config or repository / "scripts" / "accelerate" / "cpu.yaml"
        launcher = ["-m", "accelerate.commands.launch", "--config_file", config, "--num_processes", processes]
        script = repository / "scripts" / script
        return finish([sys.executable, *(launcher if processes > 1 else ()), script, *arguments], **options)

    return run
