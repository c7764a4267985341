import sys

import pytest

from processing.jobs import processes
from processing.jobs.processes import JobError, on_main, process_state, writing


def test_what_fails_in_writing():
    with pytest.raises(JobError, match=r"Cannot write x: no room\. .*the same command goes on"), writing("x"):
        raise OSError("no room")


def test_the_main_process_runs_the_function():
    state = process_state(cpu=True)
    assert on_main(state, lambda: 3) == 3
    for error, message in (
        (ValueError("bad"), "^bad$"),
        (OSError("bad"), "^OSError: bad$"),
        (ImportError("bad"), "^bad$"),
        (JobError("bad"), "^bad$"),
    ):

        def fail(error=error):
            raise error

        with pytest.raises(JobError, match=message):
            on_main(state, fail)
    with pytest.raises(KeyError):  # a mistake in the code keeps its traceback
        on_main(state, lambda: {}[1])


def test_another_process_ends_with_the_main_one(monkeypatch):
    class Other:
        is_main_process = False

    monkeypatch.setattr(processes, "broadcast_object_list", lambda sent: [None, True])
    with pytest.raises(JobError, match="main process has failed"):
        on_main(Other, lambda: 3)


TWO_PROCESSES = """
import os, pathlib
from processing.jobs.processes import on_main, process_state
state = process_state()
value = on_main(state, os.getpid)
pathlib.Path(f"{state.process_index} of {state.num_processes}").write_text(str(value == os.getpid()))
state.destroy_process_group()
"""


def test_several_processes_on_a_cpu_know_each_other(finish, tmp_path):
    (tmp_path / "job.py").write_text(TWO_PROCESSES)
    finish([sys.executable, tmp_path / "job.py"], cwd=tmp_path, processes=2, variables={"CUDA_VISIBLE_DEVICES": ""})
    assert {path.name: path.read_text() for path in tmp_path.glob("* of *")} == {"0 of 2": "True", "1 of 2": "False"}
