"""
Runs scripts, each in a process of its own, without importing the libraries anew for each: they are imported once here,
and a script starts as a fork.

A line of JSON on stdin asks for one: `argv`, `cwd`, files for `stdout` and `stderr`, and the `seconds` after which it
is killed. The answer is a line with the exit code.
"""

import json
import os
import runpy
import signal
import sys

import accelerate  # noqa: F401
import datasets  # noqa: F401
import evaluate  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
import torchcrf  # noqa: F401
from transformers import AutoModel, Trainer  # noqa: F401


def run(argv: list[str], cwd: str, stdout: str, stderr: str, seconds: int) -> None:
    """In the fork: what `python script ...` does."""
    signal.alarm(seconds)
    os.chdir(cwd)
    for descriptor, path in ((0, os.devnull), (1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), descriptor)
    sys.argv = argv
    sys.path[0] = os.path.dirname(argv[0])
    runpy.run_path(argv[0], run_name="__main__")


for line in iter(sys.stdin.readline, ""):
    process = os.fork()
    if process == 0:
        run(**json.loads(line))
        break
    _, status = os.waitpid(process, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
