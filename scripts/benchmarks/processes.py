"""Measure train.py with one process and with two, which share the same effective batch and have one thread each."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .measuring import summary
from .work import Work


SCRIPTS = Path(__file__).resolve().parents[1]
STEPS = 8
LAUNCHERS: dict[int, list[Any]] = {
    1: ["--cpu", "--num_processes", 1, "--num_machines", 1, "--mixed_precision", "no", "--dynamo_backend", "no"],
    2: ["--config_file", SCRIPTS / "accelerate" / "cpu.yaml", "--num_processes", 2],
}


def measure_processes(work: Work) -> dict[str, Any]:
    """Train fresh towers of the given sizes on the data set. The first steps, which warm up, count as well."""
    with tempfile.TemporaryDirectory() as folder:
        rounds = [
            {f"{number} process{'es' * (number > 1)}": train(work, number, folder) for number in LAUNCHERS}
            for _ in range(work.options.repeats)
        ]
    return {"comparison": summary(rounds, "1 process", "tweets")}


def train(work: Work, num_processes: int, folder: str) -> float:
    """Run train.py; returns its samples a second."""
    output = Path(folder) / f"run-{num_processes}"
    given = work.options
    source = {name: getattr(given, name) for name in ("dataset", "data_dir", "image_dir") if getattr(given, name)}
    options = {
        **source,
        "text_config": json.dumps(given.text_config or {}),
        "vision_config": json.dumps(given.vision_config or {}),
        "output_dir": output,
        "cache_dir": folder,
        "overwrite_output_dir": True,
        "use_cpu": True,
        "per_device_train_batch_size": given.batch_size // num_processes,
        "max_steps": STEPS,
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": False,
        "report_to": "none",
        "per_device_eval_batch_size": given.batch_size,
    }
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *LAUNCHERS[num_processes], SCRIPTS / "train.py"]
    command = [*map(str, launcher), *(f"--{name}={value}" for name, value in options.items())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    if finished.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {finished.returncode}: {finished.stderr[-4000:]}")
    return json.loads((output / "results.json").read_bytes())["train_samples_per_second"]
