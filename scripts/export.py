r"""
Export a trained model as a graph, which runs where torch and transformers are not installed.

    python scripts/export.py --model runs/demo --output exported/demo --dataset demo
    python scripts/export.py --model runs/twitter2017 --output exported/fast --format openvino --precision int8 \
        --dataset twitter2017 --data_dir DIR --split validation
    python scripts/predict.py --model exported/demo --text "Jordan was great tonight" --image photo.jpg

The output folder holds the graph, the configuration and the processor; `processing.exported.load_exported` opens it,
and predict.py, serve.py and the page of a Space take it like any model. One graph serves every batch size, text length
and number of crops.

Before anything is written, the graph's logits are compared with the model's, and on the data that you name its answers
too. A precision below float32 needs such data: with fewer equal answers than --least_agreement nothing is written.
8-bit activations (--format openvino --precision int8) are fitted to rows of --calibration_split.
"""

import sys
from dataclasses import dataclass

from ifaformer_commands.options.command_line import option, parse_arguments, user_errors
from ifaformer_commands.options.data_options import DataSourceArguments


FORMATS = ("onnx", "openvino")
PRECISIONS = ("float32", "bf16", "int8")


@dataclass
class ExportArguments(DataSourceArguments):
    """Options of the export."""

    model: str | None = option("The trained model: its folder, or its name on the Hub.")
    output: str | None = option("The folder for the exported model.")
    format: str = option("The format of the graph.", "onnx", choices=FORMATS)
    precision: str = option(
        "The precision of the graph: float32, bf16 (products in bfloat16, for openvino alone), or int8 (of onnx the "
        "weights alone, of openvino weights and activations).",
        "float32",
        choices=PRECISIONS,
    )
    input: list[str] | None = option(
        "Files of tweets on which graph and model are compared, folders of these, or patterns in quotes."
    )
    dataset: str = option("A data set in place of --input, by its name as in train.py or its folder.", "")
    split: str = option("The split of the data set on which graph and model are compared.", "validation")
    calibration_split: str = option("The split from whose rows the ranges of 8-bit activations are taken.", "train")
    limit: int | None = option("Compare on this number of tweets alone, from the first on.")
    least_agreement: float = option(
        "Write nothing where a smaller share of the answers, from 0 to 1, is equal.", 0.995
    )
    overwrite: bool = option("Replace an exported model in the output folder.", False)


def main() -> None:
    arguments, _ = parse_arguments(ExportArguments, description=__doc__, first=("model", "output", "format"))
    output = arguments.output
    if arguments.model is None or output is None:
        raise SystemExit("Name the model and the output, for example --model runs/demo --output exported/demo.")
    if arguments.input and arguments.dataset:
        raise SystemExit("Give one of --input and --dataset, got both.")

    import datasets
    from transformers.utils import logging

    from modeling_ifaformer.checkpoints.trained import load_processor, task_of
    from modeling_ifaformer.exporting import export_model
    from modeling_ifaformer.prediction import dataset_rows, file_rows
    from processing.data.tasks import choose_split
    from processing.jobs.processes import JobError

    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    rows = calibration = None
    with user_errors(JobError, ImportError):
        if arguments.input:
            rows = file_rows(arguments.input, arguments.image_dir)
        elif arguments.dataset:
            processor = load_processor(arguments.model, arguments.task)
            arguments.task = task_of(processor)
            data, report = arguments.load(word_splitter=processor.word_splitter)
            if report:
                print(report, file=sys.stderr)
            needed = ("head", "tail") if arguments.task == "re" else ()
            rows, calibration = (
                dataset_rows(choose_split(data, split), f"{arguments.dataset} {split}", needed)
                for split in (arguments.split, arguments.calibration_split)
            )
        result = export_model(
            arguments.model,
            output,
            arguments.format,
            arguments.precision,
            rows and rows.first(arguments.limit),
            calibration,
            arguments.least_agreement,
            arguments.overwrite,
        )
    print(result.summary())
    print(f'{output} is finished. Try it: python scripts/predict.py --model {output} --text "..."')


if __name__ == "__main__":
    main()
