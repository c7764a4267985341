r"""
Crops from raw pictures: detectors over any data set, and its rows with the crops they give.

    python scripts/prepare_crops.py --dataset twitter2017 --data_dir DIR --output_dir crops/twitter2017 \
        --aux_detector IDEA-Research/grounding-dino-tiny --rcnn_detector PekingU/rtdetr_r50vd
    accelerate launch --multi_gpu --num_processes 4 scripts/prepare_crops.py ...   # one process a GPU
    torchrun --nproc_per_node 2 scripts/prepare_crops.py ...                       # on a machine without one

*aux crops* are what a zero-shot detector (Grounding DINO, OWLv2) finds of phrases, *rcnn crops* what a detector of a
closed set (DETR, RT-DETR) finds. Without a detector for a kind, the data set's own crops of that kind stay. Phrases
are those of --phrases, else the noun phrases of each text where spaCy with a model is installed, else what entities of
the types that the labels name look like ("a person", "a logo").

The output folder holds `data/*.parquet` (the rows, with `aux_objects` and `rcnn_objects`: label, score and box of each
crop; `datasets.load_dataset` reads it), `contact_sheet.png` to judge the detectors by, and `crops.json` with settings,
counts and every picture that could not be read. Such a row stays, without picture and crops.

Killed or failed, the same command goes on where it was, with any number of processes and any --batch_size. What the
detectors found lies below `.objects/` in the output folder; it can be removed at the end.
"""

import hashlib
import io
import json
import math
import os
import random
import re
import shutil
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import torch
import transformers
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env
from data_arguments import DataSourceArguments
from filelock import FileLock, Timeout
from PIL import Image
from recipe import parse_arguments
from tqdm import tqdm

from processing import crops as crops_module
from processing.contact_sheet import SheetEntry, contact_sheet
from processing.crops import (
    DetectedObject,
    NounPhrases,
    ObjectDetector,
    checkpoint_digest,
    cut_crops,
    installed_spacy_model,
    is_zero_shot_checkpoint,
    label_phrases,
)
from processing.images import ImageError, load_image
from processing.parquet_folder import remove_unfinished, replacing, shard_path, write_shard
from processing.rows import CROP_KINDS, OBJECT_COLUMNS, with_objects


# What a kind's detector must be, by `is_zero_shot_checkpoint`.
ZERO_SHOT = {"aux": True, "rcnn": False}
JPEG = {"format": "JPEG", "quality": 95, "subsampling": 0}  # 4:4:4
ROWS_AT_ONCE = 64


@dataclass
class CropArguments(DataSourceArguments):
    output_dir: str | None = field(default=None, metadata={"help": "folder for the rows with crops"})
    aux_detector: str | None = field(default=None, metadata={"help": "zero-shot detector, Hub name or folder"})
    rcnn_detector: str | None = field(default=None, metadata={"help": "closed-set detector, Hub name or folder"})
    phrases: list[str] | None = field(default=None, metadata={"help": "phrases to look for in every picture"})
    spacy_model: str | None = field(
        default=None,
        metadata={
            "help": "spaCy model that finds the noun phrases of each text; 'none': phrases from the label set; "
            "default: an installed English one, else the label set"
        },
    )
    aux_threshold: float = field(default=0.3, metadata={"help": "aux objects score more"})
    rcnn_threshold: float = field(default=0.5, metadata={"help": "rcnn objects score more"})
    iou_threshold: float = field(default=0.5, metadata={"help": "of two boxes overlapping more, the better one stays"})
    max_aux_crops: int = field(default=3, metadata={"help": "at most so many for a picture"})
    max_rcnn_crops: int = field(default=3, metadata={"help": "at most so many for a picture"})
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

    def detector(self, kind: str) -> str | None:
        return getattr(self, f"{kind}_detector")

    def check(self) -> None:
        """
        Raises:
            ValueError: for an option that is missing or out of range.
        """
        if self.output_dir is None:
            raise ValueError("Name the folder for the rows: --output_dir crops/twitter2017")
        if not any(map(self.detector, CROP_KINDS)):
            raise ValueError("No detector: give --aux_detector, --rcnn_detector or both.")
        for name in ("aux_threshold", "rcnn_threshold", "iou_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"--{name} must be from 0 to 1, got {getattr(self, name)}.")
        for name in ("max_aux_crops", "max_rcnn_crops", "batch_size", "rows_per_shard", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}.")
        if self.phrases is not None and not any(phrase.strip(" .") for phrase in self.phrases):
            raise ValueError(f"--phrases must name at least one, got {self.phrases}.")


# ------------------------------------------------------------------------------------------------------- what to do


@dataclass
class Task:
    """A picture to be looked at once, for all rows that have it with the same phrases."""

    key: str
    split: str
    row: int
    phrases: list[str] | None


@dataclass
class Plan:
    """What the main process decided, the same in all. `keys[kind][split]` are those of the rows' tasks."""

    folders: dict[str, Path]
    keys: dict[str, dict[str, list[str | None]]]
    batches: dict[str, list[list[Task]]]
    known: dict[str, int]
    numbers: dict[str, int]
    shards: list[tuple[str, int, int]]
    finished: bool = False


class Records:
    """
    JSON lines that survive a kill: each is appended whole and flushed to the disk; processes write files of their own
    and read all. A last line that a kill cut off is passed over.
    """

    def __init__(self, folder: Path, process: int) -> None:
        self.path = folder / f"rank-{process}.jsonl"

    def append(self, record: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":  # cut off by a kill
                    file.write(b"\n")
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    @staticmethod
    def read(folder: Path) -> Iterator[Any]:
        for path in sorted(folder.glob("rank-*.jsonl")):
            for line in path.read_bytes().split(b"\n"):
                try:
                    yield json.loads(line)
                except ValueError:
                    continue


def read_objects(folder: Path) -> tuple[dict[str, list[DetectedObject]], dict[str, str]]:
    """What was found, by task, and why the pictures of other tasks could not be read."""
    found, unreadable = {}, {}
    for batch in Records.read(folder):
        for key, objects, reason in batch:
            if objects is None:
                unreadable[key] = reason
            else:
                found[key] = [DetectedObject(label, score, tuple(box)) for label, score, box in objects]
    return found, {key: reason for key, reason in unreadable.items() if key not in found}


def entity_types(features: datasets.Features) -> list[str]:
    """The types of entities that a data set's labels name: tags as B-PER, relations as /per/org/member_of."""
    if "ner_tags" in features:
        names = features["ner_tags"].feature.names
        types = [match[1] for name in names if (match := re.match(r"[BI]-(.+)", name))]
    elif "relation" in features:
        types = [part for name in features["relation"].names if name[:1] == "/" for part in name.split("/")[1:3]]
    else:
        types = []
    return list(dict.fromkeys(types))


def load_rows(arguments: CropArguments) -> tuple[datasets.DatasetDict, str]:
    """Splits with encoded pictures, and the report of loading."""
    data, report = arguments.load()
    if arguments.limit is not None:
        data = datasets.DatasetDict(
            {name: split.select(range(min(arguments.limit, len(split)))) for name, split in data.items()}
        )
    return data, report


def phrase_source(arguments: CropArguments, data: datasets.DatasetDict) -> tuple[dict[str, Any], Callable]:
    """Where grounding phrases come from, for the settings, and texts -> the phrases of each."""
    if arguments.phrases is not None:
        return {"given": arguments.phrases}, lambda texts: [arguments.phrases for _ in texts]
    phrases = label_phrases(entity_types(next(iter(data.values())).features))
    if not phrases:
        raise ValueError(
            f"The labels of {arguments.dataset!r} name no entity types: say what to look for by --phrases."
        )
    spacy_model = installed_spacy_model() if arguments.spacy_model is None else arguments.spacy_model
    if spacy_model is None or spacy_model == "none":
        return {"label set": phrases}, lambda texts: [phrases for _ in texts]
    noun_phrases = NounPhrases(spacy_model, phrases)
    meta = noun_phrases.nlp.meta
    return {"noun phrases": f"{spacy_model} {meta.get('version')}", "else": phrases}, noun_phrases


def picture_id(source: dict[str, Any]) -> str:
    """Tells a picture from others, and a file from what it was before it changed."""
    if source.get("bytes") is not None:
        return hashlib.sha256(source["bytes"]).hexdigest()
    try:
        status = os.stat(source["path"])
    except OSError:
        return f"{source['path']} absent"
    return f"{source['path']} {status.st_size} {status.st_mtime_ns}"


def digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def without_folders(name: str) -> str:
    """A name on the Hub as it is; of a path the last part, for `crops.json` may be published with the rows."""
    return Path(name).resolve().name if os.path.exists(name) else name


def settings_of(arguments: CropArguments) -> dict[str, Any]:
    """All that decides what is in the output folder, but for the data set's rows."""
    kinds: dict[str, Any] = {}
    for kind in CROP_KINDS:
        name = arguments.detector(kind)
        if name is None:
            kinds[kind] = "the data set's own"
            continue
        try:
            is_zero_shot = is_zero_shot_checkpoint(name)
        except OSError as error:  # in which transformers does not always say what it looked for
            raise ValueError(f"--{kind}_detector {name}: {error}") from error
        if is_zero_shot != ZERO_SHOT[kind]:
            expected = "a zero-shot detector (Grounding DINO, OWLv2)" if ZERO_SHOT[kind] else "one of a closed set"
            raise ValueError(f"--{kind}_detector expects {expected}, got {name}: give it as the other one.")
        kinds[kind] = {
            "detector": without_folders(name),
            "checkpoint": checkpoint_digest(name),
            "threshold": getattr(arguments, f"{kind}_threshold"),
            "iou_threshold": arguments.iou_threshold,
            "max_crops": getattr(arguments, f"max_{kind}_crops"),
        }
    return {
        "dataset": without_folders(arguments.dataset),
        "limit": arguments.limit,
        "rows_per_shard": arguments.rows_per_shard,
        "phrases": arguments.phrases,
        "spacy_model": arguments.spacy_model,
        **kinds,
    }


def read_settings(path: Path) -> dict[str, Any]:
    """A JSON file that this command wrote; nothing where there is none."""
    return json.loads(path.read_bytes()) if path.exists() else {}


def claim_folder(folder: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """
    Make the folder this run's.

    Raises:
        ValueError: for a folder that holds the rows of other settings, or Parquet files of something else.
    """
    path = folder / ".objects" / "settings.json"
    shards = sorted((folder / "data").glob("*.parquet"))
    earlier = read_settings(path) or read_settings(folder / "crops.json").get("settings")
    if earlier is None and shards and not overwrite:
        raise ValueError(
            f"{folder} holds Parquet files, and no record of how they were made: name another --output_dir, or "
            "replace them by --overwrite."
        )
    if earlier is not None and earlier != settings and shards and not overwrite:
        names = sorted(name for name in earlier | settings if earlier.get(name) != settings.get(name))
        changes = "; ".join(f"{name}: {earlier.get(name)} before, {settings.get(name)} now" for name in names)
        raise ValueError(
            f"{folder} holds rows of other settings ({changes}): name another --output_dir, or replace them by "
            "--overwrite."
        )
    if overwrite or earlier != settings:
        (folder / "crops.json").unlink(missing_ok=True)
        for shard in shards:
            shard.unlink()
        shutil.rmtree(folder / ".objects" / "unreadable", ignore_errors=True)
    for part in (folder, folder / "data", folder / ".objects"):
        remove_unfinished(part)
    with replacing(path) as file:
        file.write(json.dumps(settings, indent=2).encode())


def make_plan(arguments: CropArguments, folder: Path) -> tuple[Plan, datasets.DatasetDict | None]:
    """
    Decide what is left to do. Batches are cut from all pictures in row order, whatever is done already and however
    many processes share them: a detector's result depends, a little, on what else is in the batch, and rows must not
    depend on interruptions.

    Returns:
        The plan and the data set, None where nothing is left to do.
    """
    settings = settings_of(arguments)
    plan = Plan({}, {}, {}, {}, {}, [])
    earlier = read_settings(folder / "crops.json").get("settings", {})
    if not arguments.overwrite and {name: earlier.get(name) for name in settings} == settings:
        plan.finished = True
        return plan, None

    data, report = load_rows(arguments)
    if report:
        print(report, file=sys.stderr)
    rows = {name: split.remove_columns(["image", "aux_crops", "rcnn_crops"])[:] for name, split in data.items()}
    code = hashlib.sha256(Path(crops_module.__file__).read_bytes()).hexdigest()
    settings |= {"rows": digest(rows), "code": {"crops.py": code, "transformers": transformers.__version__}}
    if arguments.aux_detector is not None:
        settings["grounding"], find_phrases = phrase_source(arguments, data)
    with writing(folder):
        claim_folder(folder, settings, arguments.overwrite)

    pictures = {name: [source and picture_id(source) for source in split["image"]] for name, split in data.items()}
    for kind in CROP_KINDS:
        if arguments.detector(kind) is None:
            continue
        objects_folder = folder / ".objects" / digest(settings[kind], settings["code"])[:16]
        found, _ = read_objects(objects_folder)
        tasks: dict[str, Task] = {}
        batches: list[list[Task]] = []
        plan.keys[kind] = {}
        for name, split in data.items():
            texts = [" ".join(tokens) for tokens in split["tokens"]]
            phrases = find_phrases(texts) if ZERO_SHOT[kind] else [None] * len(texts)
            keys = [
                None if picture is None else digest(picture, list(looked_for) if looked_for else None)
                for picture, looked_for in zip(pictures[name], phrases, strict=True)
            ]
            plan.keys[kind][name] = keys
            of_split: list[Task] = []
            for row, key in enumerate(keys):
                if key is not None and key not in tasks:
                    tasks[key] = Task(key, name, row, phrases[row])
                    of_split.append(tasks[key])
            starts = range(0, len(of_split), arguments.batch_size)
            batches += [of_split[start : start + arguments.batch_size] for start in starts]
        left = [[task for task in batch if task.key not in found] for batch in batches]
        plan.folders[kind] = objects_folder
        plan.batches[kind] = [batch for batch in left if batch]
        plan.known[kind] = sum(key in found for key in tasks)
    for name, split in data.items():  # a split of no rows gets no shard: `datasets` cannot load one
        number = plan.numbers[name] = math.ceil(len(split) / arguments.rows_per_shard)
        plan.shards += [
            (name, index, number) for index in range(number) if not shard_path(folder, name, index, number).exists()
        ]
    return plan, data


# ------------------------------------------------------------------------------------------------------- doing it


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What fails in writing ends the command with a message that says what to do."""
    try:
        yield
    except OSError as error:
        raise SystemExit(
            f"Cannot write below {folder}: {error}. Whatever was finished is kept: once there is room and permission, "
            "the same command goes on."
        ) from error


def on_main(state: PartialState, function: Callable[[], Any]) -> Any:
    """The function's result in every process; the main one runs it, and where it fails, all end."""
    result: list[Any] = [None, None]
    if state.is_main_process:
        try:
            result[0] = function()
        except SystemExit as error:
            result[1] = str(error)
        except (ValueError, OSError, ImportError) as error:
            result[1] = f"{type(error).__name__}: {error}" if isinstance(error, OSError) else str(error)
    broadcast_object_list(result)
    if result[1] is not None:
        raise SystemExit(result[1] if state.is_main_process else 1)
    return result[0]


def picture_or_reason(source: dict[str, Any]) -> Image.Image | str:
    try:
        return load_image(source)
    except ImageError as error:
        return reason_of(error, source)


def reason_of(error: ImageError, source: dict[str, Any]) -> str:
    """The message with the file's name and not its folder: `crops.json` may be published."""
    path = source.get("path")
    return str(error).replace(path, os.path.basename(path)) if path else str(error)


def detect_share(
    arguments: CropArguments, kind: str, plan: Plan, data: datasets.DatasetDict, state: PartialState
) -> None:
    """This process's share of the batches, each recorded once it is done."""
    batches = plan.batches[kind][state.process_index :: state.num_processes]
    total = sum(map(len, plan.batches[kind]))
    if not total:
        return
    if state.is_main_process:
        known = f", {plan.known[kind]} are known already" if plan.known[kind] else ""
        print(f"{kind}: {total} pictures to look at{known}", file=sys.stderr)
    if not batches:
        return
    detector = ObjectDetector.from_pretrained(arguments.detector(kind), device=state.device)
    records = Records(plan.folders[kind], state.process_index)
    images = {name: split.select_columns(["image"]) for name, split in data.items()}
    share = f" in process 1 of {state.num_processes}" if state.num_processes > 1 else ""
    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        tqdm(
            total=sum(map(len, batches)), unit=" pictures", desc=f"{kind}{share}", disable=not state.is_main_process
        ) as progress,
    ):

        def load(batch):
            return [pool.submit(picture_or_reason, images[task.split][task.row]["image"]) for task in batch]

        ahead = deque([load(batch) for batch in batches[:1]])  # the next pictures are read while these are looked at
        for number, batch in enumerate(batches):
            ahead.extend(load(following) for following in batches[number + 1 : number + 2])
            pictures = [future.result() for future in ahead.popleft()]
            shown = [index for index, picture in enumerate(pictures) if isinstance(picture, Image.Image)]
            try:
                found = detector.detect(
                    [pictures[index] for index in shown],
                    [batch[index].phrases for index in shown] if ZERO_SHOT[kind] else None,
                    threshold=getattr(arguments, f"{kind}_threshold"),
                    iou_threshold=arguments.iou_threshold,
                    max_objects=getattr(arguments, f"max_{kind}_crops"),
                )
            except torch.OutOfMemoryError as error:
                raise SystemExit(
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


def encoded(source: dict[str, Any]) -> tuple[Image.Image, dict[str, Any]]:
    """
    A picture, and its bytes as they are stored.

    Raises:
        ImageError: for one that cannot be read.
    """
    data, path = source.get("bytes"), source.get("path")
    if data is None:
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ImageError(f"{path}: {error.strerror or error}") from error
    picture = load_image({"bytes": data, "path": path})
    return picture, {"bytes": data, "path": path and os.path.basename(path)}


def jpeg(crop: Image.Image) -> bytes:
    file = io.BytesIO()
    crop.save(file, **JPEG)
    return file.getvalue()


def row_with_crops(
    row: dict[str, Any], found: dict[str, tuple[list[DetectedObject], str | None]]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """
    A row with its pictures as bytes, crops cut and objects beside them.

    Args:
        row: pictures encoded.
        found: for each kind that has a detector, the row's objects, or why its picture could not be read.

    Returns:
        The row, and what could not be read: (column, reason).
    """
    row, problems = dict(row), []
    picture = None
    if row["image"] is not None:
        try:
            reasons = [reason for _, reason in found.values() if reason is not None]
            if reasons:
                raise ImageError(reasons[0])
            picture, row["image"] = encoded(row["image"])
        except ImageError as error:
            problems.append(("image", reason_of(error, row["image"])))
            row["image"] = None
    for kind in CROP_KINDS:
        crops_column, objects_column = f"{kind}_crops", f"{kind}_objects"
        if kind in found:
            objects = [] if picture is None else found[kind][0]
            crops = [] if picture is None else cut_crops(picture, objects)
            row[objects_column] = [detected._asdict() for detected in objects]
            row[crops_column] = [
                {"bytes": jpeg(crop), "path": f"{row['id']}_{kind}_{index}.jpg"} for index, crop in enumerate(crops)
            ]
            continue
        sources, objects = row[crops_column] or [], row.get(objects_column) or []
        kept = []
        for index, source in enumerate(sources):
            try:
                kept.append((index, encoded(source)[1]))
            except ImageError as error:
                problems.append((crops_column, reason_of(error, source)))
        row[crops_column] = [source for _, source in kept]
        beside = len(objects) == len(sources)  # else the objects are not those of the crops
        row[objects_column] = [objects[index] for index, _ in kept] if beside else []
    return row, problems


def write_share(
    arguments: CropArguments, folder: Path, plan: Plan, data: datasets.DatasetDict, state: PartialState
) -> None:
    """This process's share of the shards."""
    found = {kind: read_objects(objects_folder) for kind, objects_folder in plan.folders.items()}
    records = Records(folder / ".objects" / "unreadable", state.process_index)
    shards = plan.shards[state.process_index :: state.num_processes]
    for split, index, number in tqdm(shards, unit=" shards", desc="rows", disable=not state.is_main_process):
        features = with_objects(data[split].features)
        for column, feature in (
            ("image", datasets.Image()),
            *((f"{kind}_crops", datasets.List(datasets.Image())) for kind in CROP_KINDS),
        ):
            features[column] = feature
        start = index * arguments.rows_per_shard
        stop = min(start + arguments.rows_per_shard, len(data[split]))
        parts, unreadable = [], []
        for first in range(start, stop, ROWS_AT_ONCE):
            rows = []
            for row_index in range(first, min(first + ROWS_AT_ONCE, stop)):
                of_row = {}
                for kind, (objects, reasons) in found.items():
                    key = plan.keys[kind][split][row_index]
                    of_row[kind] = (objects.get(key, []), reasons.get(key))
                row, problems = row_with_crops(data[split][row_index], of_row)
                rows.append(row)
                unreadable += [(split, row["id"], column, reason) for column, reason in problems]
            columns = {name: [row[name] for row in rows] for name in features}
            parts.append(datasets.Dataset.from_dict(columns, features=features))
        with writing(folder):
            if unreadable:
                records.append(unreadable)
            write_shard(datasets.concatenate_datasets(parts), shard_path(folder, split, index, number))


# ------------------------------------------------------------------------------------------------------- telling it


def summarise(arguments: CropArguments, folder: Path, numbers: dict[str, int]) -> dict[str, Any]:
    """
    Read the shards (`numbers` of them for each split), write contact sheet and `crops.json`; that one says that the
    folder is finished.
    """
    problems: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for batch in Records.read(folder / ".objects" / "unreadable"):
        for split, row_id, column, reason in batch:
            problems.setdefault((split, row_id), set()).add((column, reason))
    unreadable = []
    splits: dict[str, dict[str, int]] = {}
    labels: dict[str, Counter[str]] = {kind: Counter() for kind in CROP_KINDS}
    candidates = []
    # Of a picture the name alone: it is null where the picture is, and the bytes stay on the disk.
    columns = ["id", "image.path", *(f"{kind}_crops.list.element.path" for kind in CROP_KINDS), *OBJECT_COLUMNS]
    for split, number in numbers.items():
        counts: Counter[str] = Counter(rows=0, pictures=0, rows_without_picture=0, pictures_unreadable=0)
        for index in range(number):
            with pq.ParquetFile(shard_path(folder, split, index, number)) as file:
                rows = file.read(columns=columns).to_pylist()
            for row_index, row in enumerate(rows):
                has_picture = row["image"] is not None
                unread = {
                    (column, reason)
                    for column, reason in problems.get((split, row["id"]), ())
                    if column != "image" or not has_picture  # else it was read later on
                }
                for column, reason in sorted(unread):
                    unreadable.append({"split": split, "id": row["id"], "column": column, "reason": reason})
                counts["rows"] += 1
                if has_picture:
                    counts["pictures"] += 1
                    candidates.append((split, index, row_index))
                elif "image" in dict(unread):
                    counts["pictures_unreadable"] += 1
                else:
                    counts["rows_without_picture"] += 1
                for kind in CROP_KINDS:
                    counts[f"{kind}_crops"] += len(row[f"{kind}_crops"])
                    counts[f"pictures_without_{kind}_crops"] += has_picture and not row[f"{kind}_crops"]
                    labels[kind].update(detected["label"] for detected in row[f"{kind}_objects"])
        splits[split] = dict(counts)

    with writing(folder):
        drawn = random.Random(arguments.seed).sample(candidates, min(arguments.contact_sheet_rows, len(candidates)))
        if drawn:
            sheet = sheet_of(arguments, folder, numbers, sorted(drawn, key=candidates.index))
            with replacing(folder / "contact_sheet.png") as file:
                sheet.save(file, format="PNG")
        summary = {
            "settings": json.loads((folder / ".objects" / "settings.json").read_bytes()),
            "splits": splits,
            "labels": {kind: dict(counter.most_common()) for kind, counter in labels.items()},
            "unreadable": unreadable,
        }
        with replacing(folder / "crops.json") as file:
            text = json.dumps(summary, indent=2, ensure_ascii=False)
            file.write(text.encode(errors="replace"))  # a file's name may be no text
    return summary


def sheet_of(
    arguments: CropArguments, folder: Path, numbers: dict[str, int], drawn: list[tuple[str, int, int]]
) -> Image.Image:
    """The contact sheet of the rows drawn, as (split, shard, row of the shard)."""
    entries = []
    for split, index, row_index in drawn:
        row = stored_row(shard_path(folder, split, index, numbers[split]), row_index)
        objects = {kind: [DetectedObject(**detected) for detected in row[f"{kind}_objects"]] for kind in CROP_KINDS}
        title = row["id"] if row["id"].startswith(split) else f"{split} {row['id']}"
        entries.append(SheetEntry(title, " ".join(row["tokens"]), load_image(row["image"]), objects))
    detectors = ", ".join(
        f"{kind} {Path(name).name} above {getattr(arguments, f'{kind}_threshold'):g}"
        for kind in CROP_KINDS
        if (name := arguments.detector(kind)) is not None
    )
    return contact_sheet(entries, f"{without_folders(arguments.dataset)}: {detectors}")


def stored_row(path: Path, row_index: int) -> dict[str, Any]:
    """A row of a Parquet file, of which no more than its row group is read."""
    columns = ["id", "tokens", "image", *OBJECT_COLUMNS]
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            number = file.metadata.row_group(group).num_rows
            if row_index < number:
                return file.read_row_group(group, columns=columns).slice(row_index, 1).to_pylist()[0]
            row_index -= number
    raise IndexError(f"{path} has no such row.")


def print_summary(folder: Path, summary: dict[str, Any]) -> None:
    for name, counts in summary["splits"].items():
        print(f"{name}: " + ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in counts.items()))
    for kind, labels in summary["labels"].items():
        print(
            f"{kind} labels: "
            + (", ".join(f"{label} {count}" for label, count in list(labels.items())[:12]) or "none")
        )
    for item in summary["unreadable"]:
        print(f"unreadable: {item['split']} {item['id']} {item['column']}: {item['reason']}")
    print(f"{folder} is finished: data/, contact_sheet.png, crops.json")


def main() -> None:
    arguments, _ = parse_arguments(CropArguments, description=__doc__)
    try:
        arguments.check()
    except ValueError as error:
        raise SystemExit(str(error)) from error
    # Without `cpu`, accelerate takes each of several processes on a machine without a GPU for the only one. A process
    # that is done waits for the others, for days if need be.
    on_cpu = not torch.accelerator.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")
    state = PartialState(cpu=on_cpu, timeout=timedelta(days=7))
    folder = Path(arguments.output_dir)
    lock = FileLock(folder / ".objects" / "lock")
    data = None

    def begin() -> Plan:
        nonlocal data
        with writing(folder):
            (folder / ".objects").mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise SystemExit(f"Another run is at work on {folder}: wait until it has ended.") from None
        plan, data = make_plan(arguments, folder)
        return plan

    datasets.disable_progress_bars()
    try:
        plan = on_main(state, begin)
        if plan.finished:
            if state.is_main_process:
                print(f"{folder} is finished: nothing to do. --overwrite makes it anew.")
        else:
            if data is None:  # prepared by the main process, so it is in the cache
                data, _ = load_rows(arguments)
            for kind in plan.folders:
                detect_share(arguments, kind, plan, data, state)
            state.wait_for_everyone()
            write_share(arguments, folder, plan, data, state)
            state.wait_for_everyone()
            summary = on_main(state, lambda: summarise(arguments, folder, plan.numbers))
            if state.is_main_process:
                print_summary(folder, summary)
        state.wait_for_everyone()
        state.destroy_process_group()
    finally:
        lock.release()


if __name__ == "__main__":
    main()
