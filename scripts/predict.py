r"""
Entities of tweets and their pictures, or the relation of two of them, one JSON line a tweet, in input order.

    python scripts/predict.py --model runs/demo --text "Jordan was great tonight" --image photo.jpg
    python scripts/predict.py --model runs/demo --input tweets.jsonl --output entities.jsonl
    python scripts/predict.py --model runs/demo --input 'tweets/*.parquet' --output entities.parquet --top_entities 20
    python scripts/predict.py --model runs/demo --dataset demo --limit 3 --explain occlusion --html report.html
    python scripts/predict.py --model runs/demo --input tweets.jsonl --output entities.jsonl \
        --aux_detector IDEA-Research/grounding-dino-tiny --rcnn_detector PekingU/rtdetr_r50vd
    python scripts/predict.py --model runs/demo_re --text "Jordan met Paris" --head Jordan --tail Paris
    python scripts/predict.py --model runs/demo --relation_model runs/demo_re --input tweets.jsonl --output all.jsonl
    accelerate launch --config_file scripts/accelerate/ddp_8_gpus.yaml scripts/predict.py --model runs/demo ...

An input file is plain text (a tweet a line), CSV, JSON lines or Parquet with the columns `text` or `tokens` (a list
of words), and, if there are pictures, `image`, `aux_crops` and `rcnn_crops` (a path, lists of paths), relative to the
file or to --image_dir. In CSV words are separated by spaces, paths by `;`. Several files, folders and patterns are
read one after the other. A row or a picture that cannot be used is named under `problems` of its tweet.

What is found is what the checkpoint is for. One of relations needs the columns `head` and `tail`: the entity as it
stands in the text, once; or, but for CSV, [start, end] or {"start", "end"}, end exclusive, characters of `text` or
words of `tokens`. A line then has `relation`, `score`, `head` and `tail`. --relation_model, beside a checkpoint of
entities, adds `relations` between them to each line.

Rows are read, tagged and written window by window (64 batches), so that memory does not grow with their number; within
a window, batches are made of tweets of like length. Several processes share the windows, and the output is in input
order all the same. It appears once it is whole. Killed or failed, the same command goes on where it was, with any
number of processes; what is done lies in OUTPUT.parts/ until then. OUTPUT.report.json has the settings, counts by
type and relation, and what was wrong with which rows.

Without crops of their own, rows get those that the detectors find in their pictures, as prepare_crops.py would store
them. --explain says which picture or crop speaks for an entity; --html shows texts, pictures and boxes on a page.
"""

from datetime import timedelta

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from ifaformer_commands.command_line import output_path, parse_arguments
from modeling_ifaformer.prediction.bulk import make_output, print_results
from modeling_ifaformer.prediction.options import PredictionArguments, open_source
from modeling_ifaformer.prediction.taggers import load_tagger
from processing.jobs.processes import JobError


def main() -> None:
    arguments, _ = parse_arguments(PredictionArguments, description=__doc__)
    try:
        arguments.check()
        output, _ = output_path(arguments.output), output_path(arguments.html)
        arguments.check_models()
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    # Without `cpu`, accelerate takes each of several processes on a machine without a GPU for the only one.
    on_cpu = arguments.device == "cpu" or not torch.accelerator.is_available()
    state = PartialState(cpu=on_cpu or parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=timedelta(days=7))
    if state.num_processes > 1 and output is None:
        raise SystemExit("Several processes need --output, the file in which their results are merged.")
    with state.main_process_first():  # the others find a data set that the first one prepared in the cache
        source = open_source(arguments, state.is_main_process)
    try:
        if output is None:
            report = print_results(arguments, source, load_tagger(arguments, state.device), state)
        else:
            report = make_output(arguments, source, state, output)
    except JobError as error:
        raise SystemExit(str(error)) from error
    state.destroy_process_group()
    if report is not None and report.rows and not report.tagged:
        raise SystemExit(f"None of the {report.rows} rows could be used; the first reasons are above.")


if __name__ == "__main__":
    main()
