"""Measure train.py with one process and with two, which share the same effective batch and have one thread each."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .measuring import spread
from .work import Work


SCRIPTS = Path(__file__).resolve().parents[1]
STEPS = 8


def measure_processes(work: Work) -> dict[str, Any]:
    """Train fresh towers of the given sizes on the data set. The first steps, which warm up, count as well."""
    counts, rates = (1, 2), []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(work.repeats):
            rates.append({number: train(work, number, folder) for number in counts})
    baseline = counts[0]
    return {
        "comparison": {
            "baseline": f"{baseline} process",
            "unit": "tweets",
            "cost": False,
            "runs": {
                f"{number} process{'es' if number > 1 else ''}": {
                    "per_second": spread([rate[number] for rate in rates]),
                    "times_baseline": spread([rate[number] / rate[baseline] for rate in rates]),
                }
                for number in counts
            },
        }
    }


def train(work: Work, num_processes: int, folder: str) -> float:
    """Run train.py; returns its samples a second."""
    output = Path(folder) / f"run-{num_processes}"
    launcher: list[object] = [sys.executable, "-m", "accelerate.commands.launch"]
    if num_processes > 1:
        launcher += ["--config_file", SCRIPTS / "accelerate" / "cpu.yaml", "--num_processes", num_processes]
    else:
        launcher += ["--cpu", "--num_processes", 1, "--num_machines", 1, "--mixed_precision", "no"]
        launcher += ["--dynamo_backend", "no"]
    options = {
        **work.source,
        "text_config": json.dumps(work.text_config),
        "vision_config": json.dumps(work.vision_config),
        "output_dir": output,
        "cache_dir": folder,
        "overwrite_output_dir": True,
        "use_cpu": True,
        "per_device_train_batch_size": work.batch_size // num_processes,
        "max_steps": STEPS,
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": False,
        "report_to": "none",
        "per_device_eval_batch_size": work.batch_size,
    }
    flags = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*map(str, launcher), str(SCRIPTS / "train.py"), *flags]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    if finished.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {finished.returncode}: {finished.stderr[-4000:]}")
    return json.loads((output / "results.json").read_bytes())["train_samples_per_second"]
