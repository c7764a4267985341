"""What a run was made on, for its results and its card."""

import os
import platform
import sys
from typing import Any

import accelerate
import datasets
import torch
import transformers
from transformers import TrainingArguments


try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]


def hardware(arguments: TrainingArguments) -> dict[str, Any]:
    """The device by its name, the number of devices, processes and cores, and the peak memory so far, in bytes."""
    device = arguments.device.type
    name = f"{platform.machine()} CPU with {torch.backends.cpu.get_cpu_capability()}"
    if device != "cpu":
        name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} machine's {device}"
    peak_memory = None
    if resource is not None:
        peak_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "device": name,
        "num_devices": None if device == "cpu" else arguments.world_size,
        "num_processes": arguments.world_size,
        "cpu_cores": os.cpu_count(),
        "peak_memory_bytes": peak_memory,
        "peak_device_memory_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
    }


def versions() -> dict[str, str]:
    """The versions of the libraries that a training depends on."""
    return {module.__name__: module.__version__ for module in (torch, transformers, datasets, accelerate)}
