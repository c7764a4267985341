"""Measure times and memory, in turns so that a busy machine treats all runs alike, and the peak of the machine."""

import os
import platform
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import datasets
import psutil
import torch
import transformers


@dataclass
class Run:
    """
    Args:
        units: what one call gets done: tweets, pictures, ...
        call: does it.
    """

    units: float
    call: Callable[[], Any]


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
            with open(f"/proc/{process.pid}/smaps_rollup", encoding="ascii") as file:
                sizes = dict(line.split(":") for line in file if line.startswith("Pss_"))
            return sum(int(sizes[name].split()[0]) for name in ("Pss_Anon", "Pss_Shmem")) / 1e3
        except ProcessLookupError:  # The process has ended meanwhile.
            return 0.0
        except FileNotFoundError:
            return process.memory_full_info().uss / 1e6 if process.is_running() else 0.0


def seconds(call: Callable[[], Any]) -> float:
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


def compare(
    runs: dict[str, Run], baseline: str, repeats: int, unit: str, cost: bool = False, memory: bool = False
) -> dict[str, Any]:
    """
    Each run once a round, `repeats` rounds after one that does not count.

    Args:
        runs: by name, the baseline's among them.
        unit: of the runs, for people.
        cost: tell people how many times the baseline's time a run takes, rather than how many times its rate it has.
        memory: measure memory too. This costs time, so it is for runs that take long.

    Returns:
        `baseline`, `unit`, `cost`, and `runs`: for each its rate, `per_second`, and that in relation to the baseline's
        of the same round, `times_baseline`, and the same by processor time, `times_baseline_by_cpu_time`; of all the
        median, lowest and highest. With `memory` also the highest peak, `peak_memory_mb`, and what the process held
        before the first run, `memory_before_mb`.
    """
    for run in runs.values():
        seconds(run.call)
    rounds, cpu_rounds = [], []
    peaks: dict[str, list[PeakMemory]] = {name: [] for name in runs}
    for _ in range(repeats):
        rates, cpu_rates = {}, {}
        for name, run in runs.items():
            with PeakMemory() if memory else nullcontext() as peak:
                start = cpu_clock()
                rates[name] = run.units / seconds(run.call)
                cpu_rates[name] = run.units / (cpu_clock() - start)
            if peak is not None:
                peaks[name].append(peak)
        rounds.append(rates)
        cpu_rounds.append(cpu_rates)
    return {
        "baseline": baseline,
        "unit": unit,
        "cost": cost,
        "runs": {
            name: {
                "per_second": spread([rates[name] for rates in rounds]),
                "times_baseline": spread([rates[name] / rates[baseline] for rates in rounds]),
                "times_baseline_by_cpu_time": spread([rates[name] / rates[baseline] for rates in cpu_rounds]),
                **(
                    {"peak_memory_mb": max(peak.peak for peak in seen), "memory_before_mb": seen[0].start}
                    if seen
                    else {}
                ),
            }
            for name, seen in peaks.items()
        },
    }


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def lines(comparison: dict[str, Any]) -> list[str]:
    """The lines that show a comparison to people."""
    printed, unit, cost = [], comparison["unit"], comparison["cost"]
    for name, run in comparison["runs"].items():
        rate, ratio = run["per_second"], run["times_baseline"]
        by_cpu_time = run.get("times_baseline_by_cpu_time", ratio)
        low, high = ("highest", "lowest") if cost else ("lowest", "highest")
        median, lowest, highest, by_cpu = (
            1 / value if cost else value for value in (ratio["median"], ratio[low], ratio[high], by_cpu_time["median"])
        )
        printed.append(
            f"  {name:56} {rate['median']:9,.4g} {unit}/s ({rate['lowest']:,.4g} to {rate['highest']:,.4g}); "
            f"{'cost' if cost else 'rate'} {median:.2f} times the baseline's ({lowest:.2f} to {highest:.2f}; "
            f"by processor time {by_cpu:.2f})"
        )
        if "peak_memory_mb" in run:
            printed[-1] += f", at most {run['peak_memory_mb']:,.0f} MB ({run['memory_before_mb']:,.0f} before)"
    return [f"baseline: {comparison['baseline']}", *printed]


def figure_lines(results: dict[str, Any]) -> list[str]:
    """The lines that show the figures of a part to people."""
    printed = []
    for name, figure in results.items():
        if isinstance(figure, dict) and "baseline" in figure:
            printed += [f"  {name}, {lines(figure)[0]}", *lines(figure)[1:]]
        elif isinstance(figure, dict) and "exponent" in figure:
            low, high = figure["from_to"]
            printed.append(f"  {figure['name']}: from {low:,} to {high:,} as power {figure['exponent']:.2f}")
        else:
            printed.append(f"  {name}: {figure}")
    return printed


def matrix_product(device: str, dtype: torch.dtype, size: int = 2048) -> Run:
    """Multiply square matrices. The units are floating-point operations."""
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return Run(2.0 * size**3, lambda: left @ right)


def memory_copy(device: str, megabytes: int = 256) -> Run:
    """Copy more than caches hold. The units are bytes read and written."""
    source = torch.ones(megabytes * 2**20 // 4, device=device)
    target = torch.empty_like(source)
    return Run(2.0 * source.nbytes, lambda: target.copy_(source))


def machine(device: str, repeats: int) -> dict[str, Any]:
    """What the machine is, and its operations a second in matrix products and bytes a second in copying."""
    dtypes = (torch.float32, torch.bfloat16)
    runs = {f"matrix product, {str(dtype).removeprefix('torch.')}": matrix_product(device, dtype) for dtype in dtypes}
    copying = "copying memory"
    peaks = compare(runs | {copying: memory_copy(device)}, copying, repeats, "bytes or operations")["runs"]
    return {
        "processor": processor_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bfloat16_on_cpu": torch.ops.mkldnn._is_mkldnn_bf16_supported()
        if torch.backends.mkldnn.is_available()
        else None,
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load_average": os.getloadavg(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "device": device,
        "peaks": {name: run["per_second"] for name, run in peaks.items()},
        "python": platform.python_version(),
        "versions": {module.__name__: module.__version__ for module in (torch, transformers, datasets)},
    }


def processor_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (FileNotFoundError, StopIteration):  # This is not Linux, or not x86.
        return platform.processor() or platform.machine()
