r"""
Find the entities of tweets with their pictures, or the relation of two of their entities: for each tweet, in the order
of the input, a line of JSON or a row of Parquet.

    python scripts/predict.py --model runs/demo --text "Jordan was great tonight" --image photo.jpg
    python scripts/predict.py --model runs/demo --input 'tweets/*.parquet' --output entities.parquet --top_entities 20
    python scripts/predict.py --model runs/demo --dataset demo --limit 3 --explain occlusion --html report.html
    python scripts/predict.py --model runs/demo --input tweets.jsonl --output new.jsonl --to doccano --least_certain 50
    python scripts/predict.py --model runs/demo_re --input pairs.csv --output relations.jsonl
    python scripts/predict.py --model runs/demo --relation_model runs/demo_re --dataset demo_re --limit 3

An input file is plain text (a tweet on each line), CoNLL, CSV, JSON lines, Parquet, or an annotation tool's own. The
columns are `text` or `tokens` (a list of words), and for pictures `image`, `aux_crops` and `rcnn_crops` (a path,
lists of paths). Paths start from the folder of the file, or from --image_dir. In CSV, spaces separate words and `;`
separates paths. A model that was trained with contexts
reads the column `context` too. A relation model needs the columns `head` and `tail` too: the entity as it stands in
the text, once; or [start, end] in characters of `text` or words of `tokens`, end exclusive. A result says under
`problems` what is wrong with a row or a picture. Processes of `accelerate launch` share the work. The output appears
once it is whole. After a kill, the same command goes on where it was. OUTPUT.report.json has the counts and the
problems.
"""

import sys

from ifaformer_commands.options.command_line import check_device, output_path, parse_arguments, user_errors
from ifaformer_commands.options.prediction_options import PredictionArguments, read_threshold


def main() -> None:
    arguments, _ = parse_arguments(PredictionArguments, description=__doc__, first=("model", "input", "output"))
    output, html = output_path(arguments.output), output_path(arguments.html)
    if arguments.model is None:
        raise SystemExit("Name the model, for example --model runs/demo.")
    sources = [f"--{name}" for name in ("text", "input", "dataset") if getattr(arguments, name)]
    if len(sources) != 1:
        raise SystemExit(f"Give exactly one of --text, --input, --dataset, got {' and '.join(sources) or 'none'}.")
    of_text = [f"--{name}" for name in ("image", "context", "aux_crops", "rcnn_crops") if getattr(arguments, name)]
    if of_text and arguments.text is None:
        raise SystemExit(f"{', '.join(of_text)} can be used only with --text, got {sources[0]}.")

    from modeling_ifaformer.checkpoints.trained import load_processor, task_of
    from modeling_ifaformer.prediction import BulkPrediction, dataset_rows, file_rows, load_tagger, single_row
    from modeling_ifaformer.prediction.results_file import check_output, json_line
    from processing.data.tasks import choose_split
    from processing.exported import is_exported
    from processing.jobs.processes import JobError, process_state
    from processing.problems import check_at_least_one

    state = process_state(cpu=arguments.device == "cpu")
    if state.num_processes > 1 and output is None:
        raise SystemExit("Several processes need --output, the file in which their results are merged.")
    with user_errors(JobError, ImportError):
        check_device(arguments.device)
        numbers = ("batch_size", "html_limit", "top_entities", "least_certain")
        values = {name: getattr(arguments, name) for name in numbers}
        check_at_least_one(**values, limit=arguments.limit)  # before a model is loaded
        processor = load_processor(arguments.model, arguments.task)
        task = arguments.task = task_of(processor)
        arguments.check(task)
        if output is not None:
            check_output(output, arguments.input or ([arguments.dataset] if arguments.dataset else []))
        if arguments.text is not None:
            columns = ("text", "head", "tail", "image", "context", "aux_crops", "rcnn_crops")
            row = {name: getattr(arguments, name) for name in columns}
            row["image"] = row["image"][0] if row["image"] and len(row["image"]) == 1 else row["image"]
            rows = single_row(row, "--text")
        elif arguments.input is not None:
            rows = file_rows(arguments.input, arguments.image_dir)
        else:
            data = arguments.load_once(word_splitter=processor.word_splitter)
            split, name = choose_split(data, arguments.split), f"{arguments.dataset} {arguments.split}"
            rows = dataset_rows(split, name, needed=("head", "tail") if task == "re" else ())
        options = {name: getattr(arguments, name) for name in ("crops", "explain", "relation_types")}
        options |= {"threshold": read_threshold(arguments.threshold), **vars(arguments.proposal_options())}
        # An exported model runs on the CPU, whatever there is.
        device = arguments.device or (None if is_exported(arguments.model) else state.device)
        tagger = load_tagger(arguments.model, task, arguments.relation_model, device, **options)
        prediction = BulkPrediction(rows.first(arguments.limit), tagger, html=html, to=arguments.to, **values)
        if output is not None:
            report = prediction.write_file(output, arguments.overwrite)
        else:
            report = prediction.hand_over(lambda result: sys.stdout.write(json_line(result)))
    if state.is_main_process and report is None:
        print(f"{output} is finished: nothing to do. --overwrite makes it anew.")
    elif state.is_main_process and report is not None:
        print(report.summary(arguments.top_entities), file=sys.stderr if output is None else sys.stdout)
        if output is not None:
            print(f"{output} is finished; {output}.report.json has the counts.")
    if state.is_main_process and output is not None and (path := prediction.annotation_path(output)) is not None:
        print(f"{path} is for annotation.")
    state.destroy_process_group()
    if report is not None and report.rows and not report.tagged:
        raise SystemExit(f"None of the {report.rows} rows could be used; the first reasons are above.")


if __name__ == "__main__":
    main()
