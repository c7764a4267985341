r"""
Find crops in the pictures of any data set with detectors, and store its rows with the crops.

    python scripts/prepare_crops.py --dataset twitter2017 --data_dir DIR --output_dir crops/twitter2017 \
        --aux_detector IDEA-Research/grounding-dino-tiny --rcnn_detector PekingU/rtdetr_r50vd
    accelerate launch --multi_gpu --num_processes 4 scripts/prepare_crops.py ...   # one process a GPU
    torchrun --nproc_per_node 2 scripts/prepare_crops.py ...                       # on a machine without one

*aux crops* are what a zero-shot detector (Grounding DINO, OWLv2) finds of phrases. *rcnn crops* are what a detector of
a closed set of labels (DETR, RT-DETR) finds. Without a detector for a kind, the data set's own crops of that kind
stay.

The phrases are those of --phrases. Without them, and where spaCy with a model is installed, they are the noun phrases
of each text. Otherwise they say what entities of the labels' types look like ("a person", "a logo"). spaCy comes with
`pip install -e .[spacy]`. OWLv2 needs scipy where there is no torchvision.

The output folder holds `data/*.parquet` (the rows, with `aux_objects` and `rcnn_objects`: label, score and box of each
crop; `datasets.load_dataset` reads it), `contact_sheet.png` to judge the detectors by, and `crops.json` with settings,
counts and every picture that could not be read. A row with such a picture stays, without picture and crops.

If it is killed or fails, the same command goes on with the files that are not there yet, with any number of processes
and any --batch_size. At most the rows of one file in each process are looked at again.
"""

from dataclasses import dataclass

from ifaformer_commands.options.command_line import option, parse_arguments, user_errors
from ifaformer_commands.options.data_options import DetectionArguments
from ifaformer_commands.options.preparation_options import PreparationArguments


@dataclass
class CropArguments(PreparationArguments):
    """Options of the contact sheet."""

    contact_sheet_rows: int = option("The number of pictures on the contact sheet. They are chosen at random.", 12)
    seed: int = option("The same seed chooses the same pictures for the contact sheet again.", 0)


def main() -> None:
    first = ("dataset", "output_dir", "aux_detector", "rcnn_detector")
    arguments, detection, _ = parse_arguments(CropArguments, DetectionArguments, description=__doc__, first=first)
    if arguments.output_dir is None:
        raise SystemExit("Name the folder for the rows, for example --output_dir crops/twitter2017.")

    import datasets
    from transformers.utils import logging

    from processing.crops import prepare_crops
    from processing.crops.preparation import check_detectors
    from processing.jobs.processes import JobError, process_state

    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    with user_errors(JobError, ImportError):  # Some detectors need packages of their own.
        options = detection.proposal_options()
        check_detectors(options)  # before the data are read
        data, given = arguments.load_once(), arguments.given("contact_sheet_rows", "seed")
        summary = prepare_crops(data, arguments.output_dir, options, name=arguments.dataset, **given)
    state = process_state()
    if state.is_main_process:
        arguments.print_end(summary, "data/, contact_sheet.png, crops.json")
    state.destroy_process_group()


if __name__ == "__main__":
    main()
