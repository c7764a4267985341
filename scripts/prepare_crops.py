r"""
Crops from raw pictures: detectors over any data set, and its rows with the crops they give.

    python scripts/prepare_crops.py --dataset twitter2017 --data_dir DIR --output_dir crops/twitter2017 \
        --aux_detector IDEA-Research/grounding-dino-tiny --rcnn_detector PekingU/rtdetr_r50vd
    accelerate launch --multi_gpu --num_processes 4 scripts/prepare_crops.py ...   # one process a GPU
    torchrun --nproc_per_node 2 scripts/prepare_crops.py ...                       # on a machine without one

*aux crops* are what a zero-shot detector (Grounding DINO, OWLv2) finds of phrases, *rcnn crops* what a detector of a
closed set (DETR, RT-DETR) finds. Without a detector for a kind, the data set's own crops of that kind stay. Phrases
are those of --phrases, else the noun phrases of each text where spaCy with a model is installed, else what entities of
the types that the labels name look like ("a person", "a logo"). spaCy comes with `pip install -e .[spacy]`; OWLv2
needs scipy where there is no torchvision.

The output folder holds `data/*.parquet` (the rows, with `aux_objects` and `rcnn_objects`: label, score and box of each
crop; `datasets.load_dataset` reads it), `contact_sheet.png` to judge the detectors by, and `crops.json` with settings,
counts and every picture that could not be read, or changed after it was looked at. Such a row stays, without picture
and crops.

Killed or failed, the same command goes on where it was, with any number of processes and any --batch_size. What the
detectors found lies below `.objects/` in the output folder; it can be removed at the end.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
from accelerate import PartialState

from ifaformer_commands.command_line import parse_arguments
from ifaformer_commands.data_options import DataSourceArguments
from processing.crops.preparation import CropOptions, prepare_crops
from processing.jobs.processes import JobError


@dataclass
class CropArguments(CropOptions, DataSourceArguments):
    output_dir: str | None = field(default=None, metadata={"help": "folder for the rows with crops"})

    def check(self) -> None:
        if self.output_dir is None:
            raise ValueError("Name the folder for the rows: --output_dir crops/twitter2017")
        super().check()


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
    folder = Path(arguments.output_dir)
    datasets.disable_progress_bars()
    try:
        summary = prepare_crops(arguments, folder, arguments.load, arguments.dataset)
    except JobError as error:
        raise SystemExit(str(error)) from error
    state = PartialState()
    if state.is_main_process:
        if summary is None:
            print(f"{folder} is finished: nothing to do. --overwrite makes it anew.")
        else:
            print_summary(folder, summary)
    state.destroy_process_group()


if __name__ == "__main__":
    main()
