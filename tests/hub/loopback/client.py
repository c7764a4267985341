"""A user's process."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .state import Hub


# Asked for by load_dataset whatever the settings, at a host named after the endpoint; answered by nobody.
EXPECTED_EGRESS = {"datasets-server.127.0.0.1"}
GUARD = Path(__file__).with_name("guard")


# A script several times in a process, which spares the imports: [[token, arguments], ...] -> what the user sees.
SESSION = """
import io, json, os, runpy, sys, traceback
from contextlib import redirect_stderr, redirect_stdout

script, runs = sys.argv[1], json.loads(sys.argv[2])
sys.path.insert(0, os.path.dirname(script))
outcomes = []
for token, arguments in runs:
    os.environ.pop("HF_TOKEN", None)
    if token is not None:
        os.environ["HF_TOKEN"] = token
    sys.argv = [script, *arguments]
    exit_code = 0
    with redirect_stdout(io.StringIO()) as output, redirect_stderr(io.StringIO()) as errors:
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as error:
            if isinstance(error.code, str):
                print(error.code, file=sys.stderr)
            exit_code = 1 if isinstance(error.code, str) else error.code or 0
        except BaseException:
            traceback.print_exc()
            exit_code = 1
    outcomes.append([exit_code, output.getvalue() + errors.getvalue()])
print(json.dumps(outcomes))
"""


@dataclass(frozen=True)
class Finished:
    """A client that has ended: what it printed, whom else it would have called, how long it would have waited."""

    exit_code: int
    stdout: str
    stderr: str
    egress: tuple[str, ...]
    waits: tuple[float, ...]

    @property
    def answer(self) -> Any:
        """Of its last line, JSON."""
        return json.loads(self.stdout.splitlines()[-1])


class Client:
    """
    Runs `huggingface_hub` and what stands on it as a user would: in a process of its own, without inherited settings.

    Args:
        hub: where it is sent to.
        folder: for caches and logs, one of each a call.
        fork: runs a script in a process that has imported nothing which reads a setting of the Hub.
    """

    def __init__(self, hub: Hub, folder: Path, fork: Callable[..., subprocess.CompletedProcess[str]]):
        self.hub = hub
        self.folder = folder
        self.fork = fork
        self.calls = 0

    def __call__(
        self,
        program: str | Path,
        *arguments: Any,
        token: str | None = "hf_write",
        home: Path | None = None,
        cwd: Path | None = None,
        packages: bool = True,
        pace: float = 0.01,
        env: Mapping[str, str] | None = None,
        exit_code: int | None = 0,
    ) -> Finished:
        """
        Args:
            program: Python source, or the path of a script.
            *arguments: of the command line.
            token: HF_TOKEN; None for a user who is not logged in.
            home: HF_HOME, for a client that comes again with what it has kept; an empty one by default.
            cwd: an empty folder by default.
            packages: whether the project's packages can be imported.
            pace: factor for waits between retries.
            env: further variables.
            exit_code: which must be the outcome; None for any.
        """
        self.calls += 1
        folder = self.folder / f"client{self.calls}"
        log = folder / "log"
        home = home or folder / "home"
        cwd = cwd or folder / "elsewhere"
        for path in (home, cwd):
            path.mkdir(parents=True, exist_ok=True)
        settled = re.compile(r"HF_|HUGGING|TRANSFORMERS_|DATASETS_|LOOPBACK_|PYTHON|.*_PROXY$", re.IGNORECASE)
        environment = {name: value for name, value in os.environ.items() if not settled.match(name)}
        environment |= {
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "DISABLE_SAFETENSORS_CONVERSION": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            # What PYTHONPATH brings, as an installed package, can be imported unless it is blocked.
            "PYTHONPATH": os.pathsep.join([str(GUARD), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "PYTHONIOENCODING": "utf-8",
            "LOOPBACK_LOG": str(log),
            "LOOPBACK_PACE": str(pace),
            "LOOPBACK_BLOCKED": "" if packages else "modeling_ifaformer,processing,hub_card,ifaformer_commands",
            **({} if token is None else {"HF_TOKEN": token}),
            **(env or {}),
        }
        if isinstance(program, str):
            script = folder / "program.py"
            script.write_text(program, encoding="utf-8")
        else:
            script = program.resolve()
        process = self.fork([script, *arguments], [environment], cwd)
        entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
        egress, waits = (tuple(entry[1] for entry in entries if entry[0] == kind) for kind in ("egress", "wait"))
        assert exit_code in (None, process.returncode), f"exit code {process.returncode}\n{process.stderr[-4000:]}"
        assert set(egress) <= EXPECTED_EGRESS, f"tried to reach {egress}"
        return Finished(process.returncode, process.stdout, process.stderr, egress, waits)

    def session(self, script: Path, runs: Sequence[tuple[str | None, Sequence[str]]], **options: Any) -> list[Any]:
        """A script once for each (token, arguments), in one process: (exit code, what the user reads) of each."""
        return self(SESSION, script.resolve(), json.dumps(runs), **options).answer
