"""Measure times and memory, in turns so that a busy machine treats all runs alike, and the peak of the machine."""

import os
import platform
import re
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch

from modeling_ifaformer.training.hardware import versions


Call = Callable[[], Any]


class PeakMemory:
    """
    Memory of this process and its children in MB, at the start and the peak of what is seen every 20 ms: pages that
    they share count once, those of mapped files not at all (on Linux; elsewhere all that is theirs alone).
    """

    def __enter__(self) -> "PeakMemory":
        self._stop = threading.Event()
        self.start = self.peak = self._now()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.02):
            self.peak = max(self.peak, self._now())

    def _now(self) -> float:
        own = psutil.Process()
        return sum(map(self._of, [own, *own.children(recursive=True)]))

    @staticmethod
    def _of(process: psutil.Process) -> float:
        try:
            pages = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
            return sum(map(int, re.findall(r"^Pss_(?:Anon|Shmem): +(\d+) kB", pages, flags=re.MULTILINE))) / 1e3
        except ProcessLookupError:  # The process has ended meanwhile.
            return 0.0
        except FileNotFoundError:
            return process.memory_full_info().uss / 1e6 if process.is_running() else 0.0


def seconds(call: Call) -> float:
    """The time of one call, until the accelerator has finished it too."""
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def cpu_clock() -> float:
    """The processor time of all threads and ended children so far. Other work on the machine hardly changes it."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def compare(runs: Mapping[str, tuple[float, Call]], baseline: str, repeats: int, unit: str) -> dict[str, Any]:
    """
    Call each run once a round, `repeats` rounds after one that does not count.

    Args:
        runs: by name, how much one call gets done (tweets, pictures, ...), and the call.

    Returns:
        As [`summary`], with the ratios by processor time, `times_baseline_by_cpu_time`.
    """
    for _, call in runs.values():
        seconds(call)
    return compared([{name: rates(*run) for name, run in runs.items()} for _ in range(repeats)], baseline, unit)


def rates(units: float, call: Call) -> tuple[float, float]:
    """Units a second in one call: by the clock, and by processor time."""
    start = cpu_clock()
    by_clock = units / seconds(call)
    return by_clock, units / (cpu_clock() - start)


def compared(rounds: list[dict[str, tuple[float, float]]], baseline: str, unit: str) -> dict[str, Any]:
    """The comparison of the [`rates`] in each round, see [`compare`]."""
    comparison, by_cpu = (
        summary([{name: of_run[clock] for name, of_run in of_round.items()} for of_round in rounds], baseline, unit)
        for clock in (0, 1)
    )
    for name, run in comparison["runs"].items():
        run["times_baseline_by_cpu_time"] = by_cpu["runs"][name]["times_baseline"]
    return comparison


def summary(rounds: list[dict[str, float]], baseline: str, unit: str) -> dict[str, Any]:
    """
    The comparison of runs by their rates in each round: `baseline`, `unit`, and `runs`, for each its rate,
    `per_second`, and that in relation to the baseline's of the same round, `times_baseline`.
    """
    runs = {
        name: {
            "per_second": median_and_range([rates[name] for rates in rounds]),
            "times_baseline": median_and_range([rates[name] / rates[baseline] for rates in rounds]),
        }
        for name in rounds[0]
    }
    return {"baseline": baseline, "unit": unit, "runs": runs}


def median_and_range(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def figure_lines(results: dict[str, Any]) -> list[str]:
    """The lines that show the figures of a part to people."""
    printed = []
    for name, figure in results.items():
        if isinstance(figure, dict) and "baseline" in figure:
            printed.append(f"  {name}, baseline: {figure['baseline']}")
            printed += [run_line(run_name, run, figure["unit"]) for run_name, run in figure["runs"].items()]
        elif isinstance(figure, dict) and "exponent" in figure:
            low, high = figure["from_to"]
            printed.append(f"  {figure['name']}: from {low:,} to {high:,} as power {figure['exponent']:.2f}")
        else:
            printed.append(f"  {name}: {figure}")
    return printed


def run_line(name: str, run: dict[str, Any], unit: str) -> str:
    median, lowest, highest = run["per_second"].values()
    line = f"  {name:56} {median:9,.4g} {unit}/s ({lowest:,.4g} to {highest:,.4g}); "
    median, lowest, highest = run["times_baseline"].values()
    line += f"{median:.2f} times the baseline's rate ({lowest:.2f} to {highest:.2f}), "
    return line + f"{1 / median:.2f} times its cost ({1 / highest:.2f} to {1 / lowest:.2f})"


def matrix_product(device: str, dtype: torch.dtype, size: int = 2048) -> tuple[float, Call]:
    """Multiply square matrices. The units are floating-point operations."""
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2.0 * size**3, lambda: left @ right


def machine(device: str, repeats: int) -> dict[str, Any]:
    """What the machine is, and its operations a second in matrix products and bytes a second in copying."""
    source = torch.ones(2**26, device=device)  # more than caches hold
    copy = torch.empty_like(source)
    runs: dict[str, tuple[float, Call]] = {"copying memory": (2.0 * source.nbytes, lambda: copy.copy_(source))}
    for dtype in (torch.float32, torch.bfloat16):
        runs[f"matrix product, {str(dtype).removeprefix('torch.')}"] = matrix_product(device, dtype)
    peaks = compare(runs, "copying memory", repeats, "bytes or operations")["runs"]
    cpu_info = Path("/proc/cpuinfo")  # on Linux
    names = re.findall(r"model name\s*: (.*)", cpu_info.read_text(encoding="utf-8")) if cpu_info.exists() else []
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load_average": os.getloadavg(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "device": device,
        "peaks": {name: run["per_second"] for name, run in peaks.items()},
        "python": platform.python_version(),
        "versions": versions(),
    }
