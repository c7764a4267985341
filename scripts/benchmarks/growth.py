"""Measure how time and memory grow with the batch, the text, the crops and the rows."""

import math
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from hub_card.figures import BLUE, DPI, FONT, GREY, ORANGE, WIDTH, finish_axes, log_scale
from processing.columns import PICTURE_COLUMNS
from processing.features.batch_order import largest_first
from processing.features.prepare import prepare_features
from processing.inspection.contact_sheet import png

from .measuring import Call, PeakMemory, median_and_range, seconds
from .work import Work, repeated, run_batches


BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
TEXT_LENGTHS = (8, 16, 32, 64, 128, 256, 512)
CROPS = (0, 1, 2, 4, 8, 16)
TYPICAL_LENGTH, TYPICAL_CROPS = 20, 1  # What a tweet has while something else grows.
SMALL_BATCH = 4
READ_BATCHES = 20


def measure_growth(work: Work) -> dict[str, Any]:
    """
    Of each curve `name`, what x is; `x`; `seconds`, median and range at each x; `memory_mb`, the peak beyond what was
    there before the curve; `exponent`, of the power of x with which the seconds grow between the last two, `from_to`.
    """
    model = work.ifaformer(use_whole_image=False, num_aux_crops=max(CROPS)).ifaformer
    longest: Any = model.config.max_text_length
    lengths = [length for length in TEXT_LENGTHS if length <= longest]
    rows = [work.options.max_rows // 10**power for power in (3, 2, 1, 0)]
    texts = work.rows.remove_columns(list(PICTURE_COLUMNS))

    def forward(batch_size: int = SMALL_BATCH, length: int = TYPICAL_LENGTH, crops: int = TYPICAL_CROPS) -> Call:
        batch = {
            "input_ids": torch.randint(10, 90, (batch_size, length), device=work.device),
            "attention_mask": torch.ones(batch_size, length, dtype=torch.long, device=work.device),
        }
        if crops:
            size = work.processor.aux_crop_size
            batch["aux_pixel_values"] = torch.randn(batch_size, crops, 3, size, size, device=work.device)
        return partial(run_batches, model, [batch])

    def preparing(number: int) -> Call:
        many = repeated(texts, number)

        def call() -> None:
            with tempfile.TemporaryDirectory() as folder:
                prepare_features(many, work.processor, folder)

        return call

    def ordering(number: int) -> Call:
        return partial(largest_first, repeated(work.whole_features, number))

    def reading(number: int) -> Call:
        features = repeated(work.whole_features, number)
        size = (READ_BATCHES * work.options.batch_size,)
        return lambda: deque(work.loader(features.select(torch.randint(number, size).tolist())), maxlen=0)

    curves: dict[str, tuple[str, Sequence[int], Callable[[int], Call]]] = {
        "batch_size": ("tweets a batch", BATCH_SIZES, forward),
        "text_length": (
            f"tokens a text, {SMALL_BATCH} tweets",
            lengths,
            lambda length: forward(length=length, crops=0),
        ),
        "crops": (f"aux crops a tweet, {SMALL_BATCH} tweets", CROPS, lambda crops: forward(crops=crops)),
        "preparing_texts": ("rows whose texts are prepared", rows[:-1], preparing),
        "ordering": ("rows that are ordered by size", rows, ordering),
        "reading": (f"rows of which {READ_BATCHES} batches are read at random", rows, reading),
    }
    return {name: curve(*of_curve, work.options.repeats) for name, of_curve in curves.items()}


def curve(name: str, numbers: Sequence[int], make_call: Callable[[int], Call], repeats: int) -> dict[str, Any]:
    times, memory, starts = [], [], []
    for number in numbers:
        call = make_call(number)
        with PeakMemory() as peak:
            seconds(call)  # The first call does not count.
            times.append(median_and_range([seconds(call) for _ in range(repeats)]))
        starts.append(peak.start)
        # An allocator may keep memory for the next point or give some back, so all points count from the first start.
        memory.append(max(0.0, peak.peak - starts[0]))
    before, last = (time["median"] for time in times[-2:])
    return {
        "name": name,
        "x": numbers,
        "seconds": times,
        "memory_mb": memory,
        "exponent": math.log(last / before) / math.log(numbers[-1] / numbers[-2]),
        "from_to": numbers[-2:],
    }


def draw_curves(curves: dict[str, dict[str, Any]], folder: Path) -> None:
    """
    Draw each curve of [`measure_growth`] into a PNG of its name: the seconds, with lowest and highest, above the
    memory. Both axes of the seconds are logarithmic where nothing is 0; a dashed line shows what would be linear.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, curve in curves.items():
        figure = Figure(figsize=(WIDTH, 5.6), dpi=DPI, layout="constrained", facecolor="white")
        figure.suptitle(name.replace("_", " ").capitalize(), x=0.01, ha="left", fontsize=FONT, fontweight="bold")
        times, memory = figure.subplots(2, sharex=True)
        numbers = curve["x"]
        medians, lowest, highest = zip(*(time.values() for time in curve["seconds"]), strict=True)
        times.fill_between(numbers, lowest, highest, color=BLUE, alpha=0.2, linewidth=0)
        times.plot(numbers, [medians[-1] * number / numbers[-1] for number in numbers], color=GREY, linestyle="--")
        times.plot(numbers, medians, color=BLUE, marker="o")
        memory.plot(numbers, curve["memory_mb"], color=ORANGE, marker="o")
        if min(numbers) > 0:
            log_scale(times, "y")
            log_scale(times, "x")
        times.set_xticks(numbers)
        memory.set_ylim(0, max(*curve["memory_mb"], 1.0) * 1.1)
        finish_axes(times, "Seconds (dashed: in proportion)")
        finish_axes(memory, "Peak memory in MB, beyond the start", curve["name"])
        (folder / f"{name}.png").write_bytes(png(figure))
