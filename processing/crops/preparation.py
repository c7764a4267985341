"""
Crops for any data set: detectors over its pictures, and its rows with what they find as Parquet files in a folder.

    options = CropOptions(aux_detector="IDEA-Research/grounding-dino-tiny")
    summary = prepare_crops(options, "crops/demo", lambda: load_data("demo"), "demo")

`data/*.parquet`, `contact_sheet.png` and `crops.json` are the result; `.objects/` below the folder holds what an
interrupted run goes on with.
"""

import hashlib
import json
import math
import os
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import datasets
import torch
import transformers
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from filelock import FileLock, Timeout
from PIL import Image
from tqdm import tqdm

from processing.columns import PICTURE_COLUMNS
from processing.detectors import ObjectDetector, is_zero_shot_checkpoint
from processing.jobs.atomic_files import replacing
from processing.jobs.digests import checkpoint_digest, digest, picture_id, without_folders
from processing.jobs.output_folder import claim_folder, finished_settings
from processing.jobs.processes import JobError, on_main, writing
from processing.object_proposals import ProposalOptions
from processing.phrases import FindPhrases
from processing.rows.loading_report import LoadingReport
from processing.rows.parquet_folder import shard_path, write_shard
from processing.rows.row_features import CROP_KINDS

from .cut_rows import picture_or_reason, shard_with_crops
from .plan import Plan, cut_batches, phrase_source
from .records import Records, recorded_objects
from .summary import draw_sheet, summarise


# Splits with encoded pictures, and the report of loading.
Load = Callable[[], tuple[datasets.DatasetDict, LoadingReport]]


@dataclass
class CropOptions(ProposalOptions):
    """What to look for, with which detectors, and how the rows are stored; at least one detector."""

    option_prefix: ClassVar[str] = "--"

    batch_size: int = field(default=8, metadata={"help": "pictures a batch, in each process"})
    rows_per_shard: int = field(default=500, metadata={"help": "rows a Parquet file"})
    limit: int | None = field(default=None, metadata={"help": "only the first rows of each split"})
    contact_sheet_rows: int = field(default=12, metadata={"help": "pictures on the contact sheet, drawn by --seed"})
    seed: int = field(default=0, metadata={"help": "of the draw for the contact sheet"})
    overwrite: bool = field(
        default=False,
        metadata={
            "help": "replace the rows of another run; what a detector found with the same settings is used again"
        },
    )

    def check(self) -> None:
        """
        Raises:
            ValueError: for an option that is missing or out of range.
        """
        if not any(self.detectors.values()):
            raise ValueError("No detector: give --aux_detector, --rcnn_detector or both.")
        super().check()
        for name in ("batch_size", "rows_per_shard", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}.")

    def settings(self, name: str) -> dict[str, Any]:
        """
        All that decides what is in the output folder, but for the rows of the data set `name`.

        Raises:
            ValueError: for a detector that is absent, or not of its kind.
        """
        kinds: dict[str, Any] = {}
        for kind in CROP_KINDS:
            detector = self.detectors.get(kind)
            if detector is None:
                kinds[kind] = "the data set's own"
                continue
            try:
                is_zero_shot = is_zero_shot_checkpoint(detector)
            except OSError as error:  # in which transformers does not always say what it looked for
                raise ValueError(f"--{kind}_detector {detector}: {error}") from error
            self.check_kind(kind, is_zero_shot)
            kinds[kind] = {
                "detector": without_folders(detector),
                "checkpoint": checkpoint_digest(detector),
                "threshold": self.threshold(kind),
                "iou_threshold": self.iou_threshold,
                "max_crops": self.max_crops(kind),
            }
        return {
            "dataset": without_folders(name),
            "limit": self.limit,
            "rows_per_shard": self.rows_per_shard,
            "phrases": self.phrases,
            "spacy_model": self.spacy_model,
            **kinds,
        }


def prepare_crops(options: CropOptions, folder: str | os.PathLike, load: Load, name: str) -> dict[str, Any] | None:
    """
    Look at the pictures of a data set and store its rows with crops. Interrupted, the same call goes on where it was,
    with any number of processes and any batch size. To be called in every process that `accelerate launch` or
    `torchrun` starts; they share the work.

    Args:
        options: what to do.
        folder: for the rows, made where it is absent.
        load: gives the data set, pictures encoded, and its report, which is printed to stderr. Called in the main
            process first, then in the others, which find what it prepared in the cache.
        name: of the data set, for the settings and messages.

    Returns:
        What `crops.json` holds: settings, counts, labels and what could not be read. None where the folder was
        finished already, of the same rows and pictures, which loads no detector.

    Raises:
        ValueError: for options that are missing or out of range.
        JobError: for a detector, phrase source or data set that cannot be used, a folder that is in use, holds
            something else or cannot be written, and a batch too large for the device.
        MainProcessError: in the other processes where the main one raises.
    """
    options.check()
    # Without `cpu`, accelerate takes each of several processes on a machine without a GPU for the only one. A process
    # that is done waits for the others, for days if need be.
    on_cpu = not torch.accelerator.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")
    state = PartialState(cpu=on_cpu, timeout=timedelta(days=7))
    folder = Path(folder)
    lock = FileLock(folder / ".objects" / "lock")
    data = None

    def begin() -> Plan:
        nonlocal data
        with writing(folder):
            (folder / ".objects").mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise JobError(f"Another run is at work on {folder}: wait until it has ended.") from None
        plan, data = make_plan(options, folder, load, name)
        return plan

    try:
        plan = on_main(state, begin)
        summary = None
        if not plan.finished:
            if data is None:  # prepared by the main process, so it is in the cache
                data, _ = load_rows(options, load)
            for kind in plan.folders:
                detect_share(options, kind, plan, data, state)
            state.wait_for_everyone()
            write_share(options, folder, plan, data, state)
            state.wait_for_everyone()
            summary = on_main(state, lambda: finish(options, folder, plan, name))
        state.wait_for_everyone()
        return summary
    finally:
        lock.release()


def load_rows(options: CropOptions, load: Load) -> tuple[datasets.DatasetDict, LoadingReport]:
    """Splits within the limit, and the report of loading."""
    data, report = load()
    if options.limit is not None:
        limit = options.limit
        data = datasets.DatasetDict({split: rows.select(range(min(limit, len(rows)))) for split, rows in data.items()})
    return data, report


def make_plan(options: CropOptions, folder: Path, load: Load, name: str) -> tuple[Plan, datasets.DatasetDict | None]:
    """
    Decide what is left to do. Batches are cut from all pictures in row order, whatever is done already and however
    many processes share them: a detector's result depends, a little, on what else is in the batch, and rows must not
    depend on interruptions.

    Returns:
        The plan and the data set, None where nothing is left to do.

    Raises:
        ValueError: for a detector, phrase source or folder that cannot be used.
        ImportError: for spaCy or its model where they are missing.
        JobError: where the folder cannot be written.
    """
    settings = options.settings(name)
    data, report = load_rows(options, load)
    rows = {split: of_split.remove_columns(list(PICTURE_COLUMNS))[:] for split, of_split in data.items()}
    pictures = {split: [source and picture_id(source) for source in rows["image"]] for split, rows in data.items()}
    own_crops = {
        f"{split} {kind}": [[picture_id(crop) for crop in crops or ()] for crops in rows[f"{kind}_crops"]]
        for split, rows in data.items()
        for kind in CROP_KINDS
        if kind not in options.detectors
    }
    # Of two data sets the names may be the same, for a folder's is the last part of its path.
    settings |= {"rows": digest(rows), "pictures": digest(pictures, own_crops)}
    earlier = finished_settings(folder) or {}
    if not options.overwrite and {setting: earlier.get(setting) for setting in settings} == settings:
        return Plan(finished=True), None

    if report:
        print(report, file=sys.stderr)
    code = hashlib.sha256(Path(__file__).parents[1].joinpath("detectors.py").read_bytes()).hexdigest()
    settings |= {"code": {"crops.py": code, "transformers": transformers.__version__}}
    find_phrases: dict[str, FindPhrases] = {"rcnn": lambda texts: [None] * len(texts)}
    if "aux" in options.detectors:
        features = next(iter(data.values())).features
        settings["grounding"], find_phrases["aux"] = phrase_source(
            options.phrases, options.spacy_model, features, name
        )
    with writing(folder):
        claim_folder(folder, settings, options.overwrite)

    plan = Plan()
    for kind in options.detectors:
        texts = {split: [" ".join(tokens) for tokens in of_split["tokens"]] for split, of_split in data.items()}
        phrases = {split: find_phrases[kind](of_split) for split, of_split in texts.items()}
        batches, plan.keys[kind] = cut_batches(pictures, phrases, options.batch_size)
        plan.folders[kind] = folder / ".objects" / digest(settings[kind], settings["code"])[:16]
        found, _ = recorded_objects(plan.folders[kind])
        left = [[task for task in batch if task.key not in found] for batch in batches]
        plan.batches[kind] = [batch for batch in left if batch]
        plan.known[kind] = sum(map(len, batches)) - sum(map(len, left))
    for split, of_split in data.items():  # a split of no rows gets no shard: `datasets` cannot load one
        number = plan.numbers[split] = math.ceil(len(of_split) / options.rows_per_shard)
        plan.shards += [
            (split, index, number) for index in range(number) if not shard_path(folder, split, index, number).exists()
        ]
    return plan, data


def detect_share(options: CropOptions, kind: str, plan: Plan, data: datasets.DatasetDict, state: PartialState) -> None:
    """
    This process's share of the batches, each recorded once it is done.

    Raises:
        JobError: where the device has too little memory for a batch, or the disk for its record.
    """
    batches = plan.batches[kind][state.process_index :: state.num_processes]
    total = sum(map(len, plan.batches[kind]))
    if not total:
        return
    if state.is_main_process:
        known = f", {plan.known[kind]} are known already" if plan.known[kind] else ""
        print(f"{kind}: {total} pictures to look at{known}", file=sys.stderr)
    if not batches:
        return
    detector = ObjectDetector.from_pretrained(options.detectors[kind], device=state.device)
    records = Records(plan.folders[kind], state.process_index)
    images = {split: rows.select_columns(["image"]) for split, rows in data.items()}
    share = f" in process 1 of {state.num_processes}" if state.num_processes > 1 else ""
    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        tqdm(
            total=sum(map(len, batches)), unit=" pictures", desc=f"{kind}{share}", disable=not state.is_main_process
        ) as progress,
    ):

        def read(batch):
            return [pool.submit(picture_or_reason, images[task.split][task.row]["image"]) for task in batch]

        ahead = deque([read(batch) for batch in batches[:1]])  # the next pictures are read while these are looked at
        for number, batch in enumerate(batches):
            ahead.extend(read(following) for following in batches[number + 1 : number + 2])
            pictures = [future.result() for future in ahead.popleft()]
            shown = [index for index, picture in enumerate(pictures) if isinstance(picture, Image.Image)]
            try:
                found = options.detect(
                    detector,
                    kind,
                    [pictures[index] for index in shown],
                    [batch[index].phrases for index in shown],
                )
            except torch.OutOfMemoryError as error:
                raise JobError(
                    f"Out of memory with {len(shown)} pictures in a batch: run the same command with a smaller "
                    f"--batch_size; what was found is kept. ({error})"
                ) from error
            objects = dict(zip(shown, found, strict=True))
            with writing(plan.folders[kind]):
                records.append(
                    [
                        (task.key, objects.get(index), None if index in objects else pictures[index])
                        for index, task in enumerate(batch)
                    ]
                )
            progress.update(len(batch))


def write_share(
    options: CropOptions, folder: Path, plan: Plan, data: datasets.DatasetDict, state: PartialState
) -> None:
    """
    This process's share of the shards.

    Raises:
        JobError: where one cannot be written.
    """
    found = {kind: recorded_objects(objects_folder) for kind, objects_folder in plan.folders.items()}
    records = Records(folder / ".objects" / "unreadable", state.process_index)
    shards = plan.shards[state.process_index :: state.num_processes]
    for split, index, number in tqdm(shards, unit=" shards", desc="rows", disable=not state.is_main_process):
        start = index * options.rows_per_shard
        stop = min(start + options.rows_per_shard, len(data[split]))
        of_rows: list[dict[str, Any]] = [{} for _ in range(start, stop)]
        for kind, (objects, reasons) in found.items():
            for of_row, key in zip(of_rows, plan.keys[kind][split][start:stop], strict=True):
                of_row[kind] = (objects.get(key, []), reasons.get(key)) if key is not None else ([], None)
        shard, unreadable = shard_with_crops(data[split].select(range(start, stop)), of_rows)
        with writing(folder):
            if unreadable:
                records.append([[split, *problem] for problem in unreadable])
            write_shard(shard, shard_path(folder, split, index, number))


def finish(options: CropOptions, folder: Path, plan: Plan, name: str) -> dict[str, Any]:
    """
    Contact sheet and `crops.json` of a folder that has all shards; that one says that the folder is finished.

    Returns:
        What `crops.json` holds.

    Raises:
        JobError: where they cannot be written.
    """
    summary, pictures = summarise(folder, plan.numbers)
    with writing(folder):
        detectors = ", ".join(
            f"{kind} {Path(detector).name} above {options.threshold(kind):g}"
            for kind, detector in options.detectors.items()
        )
        title = f"{without_folders(name)}: {detectors}"
        sheet = draw_sheet(folder, plan.numbers, pictures, options.contact_sheet_rows, options.seed, title)
        if sheet is not None:
            with replacing(folder / "contact_sheet.png") as file:
                sheet.save(file, format="PNG")
        summary = {"settings": json.loads((folder / ".objects" / "settings.json").read_bytes()), **summary}
        with replacing(folder / "crops.json") as file:
            text = json.dumps(summary, indent=2, ensure_ascii=False)
            file.write(text.encode(errors="replace"))  # a file's name may be no text
    return summary
