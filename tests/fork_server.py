"""
Runs scripts, each in a process of its own, without importing the libraries anew for each: those that the command line
names are imported once here, and a script starts as a fork.

A line of JSON on stdin asks for a script to be run. Its keys are:

    argv             the path of the script, and its arguments
    environments     all variables of each process: several run at the same time, as a launcher starts them
    cwd              the folder in which they run
    stdout, stderr   files for what they print
    seconds          the time after which they are killed

The answer is a line with the exit code, or with that of the first process that fails. The others end with it.
"""

import atexit
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import wait


def run(argv: list[str], environment: dict[str, str], cwd: str, stdout: str, stderr: str, seconds: int) -> None:
    """In the fork: what `python script ...` does."""
    signal.alarm(seconds)
    os.chdir(cwd)
    for descriptor, path in ((0, os.devnull), (1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    given = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[1:1] = [path for path in given if path not in sys.path]
    sys.modules.pop("sitecustomize", None)  # a distribution may have its own, which this process has imported
    with suppress(ModuleNotFoundError):
        importlib.import_module("sitecustomize")
    sys.argv = argv
    sys.path[0] = os.path.dirname(argv[0])
    try:
        runpy.run_path(argv[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # as multiprocessing does from Python 3.13 on


def exit_code(processes: list[multiprocessing.Process]) -> int:
    """Of the first process that fails, which ends the others; 0 where all end well."""
    code = 0
    running = {process.sentinel: process for process in processes}
    while running:
        for sentinel in wait(running):
            process = running.pop(sentinel)
            process.join()
            if process.exitcode and not code:
                code = process.exitcode
                for other in running.values():
                    other.kill()
    return code


def serve() -> None:
    forks = multiprocessing.get_context("fork")
    for line in iter(sys.stdin.readline, ""):
        job = json.loads(line)
        environments = job.pop("environments")
        processes = [forks.Process(target=run, kwargs={**job, "environment": of_one}) for of_one in environments]
        for process in processes:
            process.start()
        print(exit_code(processes), flush=True)


for name in sys.argv[1:]:
    importlib.import_module(name)
gc.freeze()  # else a fork copies the memory of all that was imported, when it looks for what can be freed
serve()
