r"""
Say in words what the pictures of any data set show, and store its rows with that as their context.

    python scripts/prepare_context.py --dataset twitter2017 --data_dir DIR --output_dir contexts/twitter2017 \
        --caption_model Salesforce/blip-image-captioning-base --ocr true
    accelerate launch --multi_gpu --num_processes 4 scripts/prepare_context.py ...   # one process a GPU

Captions are made by any image-to-text checkpoint of transformers: one that makes a text of a picture alone (BLIP,
GIT, a vision encoder with a text decoder), or one with a chat template, which is asked by --caption_prompt. Letters
in the pictures are read by the program tesseract, where it is installed. What a row has in its column `context`
already, such as knowledge about its names, stays in front.

The output folder holds `data/*.parquet` (the rows, with `context`: kind and text of each part; --dataset takes the
folder, and `datasets.load_dataset` reads it) and `contexts.json` with settings, counts and every picture that could
not be read. A row with such a picture stays, without it. train.py reads contexts with --max_context_length.

If it is killed or fails, the same command goes on with the files that are not there yet.
"""

from dataclasses import dataclass

from ifaformer_commands.options.command_line import option, parse_arguments, user_errors
from ifaformer_commands.options.preparation_options import PreparationArguments


@dataclass
class ContextArguments(PreparationArguments):
    """Options of the contexts."""

    caption_model: str | None = option("The image-to-text model that makes captions: a name on the Hub or a folder.")
    caption_prompt: str = option(
        "What a captioning model with a chat template is asked.", "Describe the picture in one sentence."
    )
    max_caption_tokens: int = option("The length of the longest caption in tokens.", 30)
    ocr: bool = option("Read the letters in the pictures, with the program tesseract.", False)
    ocr_languages: list[str] = option("The languages of the letters, as tesseract names them.", ["eng"])
    ocr_confidence: float = option("Leave out words of whose letters tesseract is less sure, from 0 to 100.", 60.0)


def main() -> None:
    first = ("dataset", "output_dir", "caption_model", "ocr")
    arguments, _ = parse_arguments(ContextArguments, description=__doc__, first=first)
    if arguments.output_dir is None:
        raise SystemExit("Name the folder for the rows, for example --output_dir contexts/twitter2017.")

    import datasets
    from transformers.utils import logging

    from processing.contexts import ContextOptions, prepare_contexts
    from processing.jobs.processes import JobError, process_state

    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    with user_errors(JobError, ImportError):
        names = ("caption_model", "caption_prompt", "max_caption_tokens", "ocr", "ocr_languages", "ocr_confidence")
        options = ContextOptions(**{name: getattr(arguments, name) for name in names})
        data, given = arguments.load_once(), arguments.given()
        summary = prepare_contexts(data, arguments.output_dir, options, name=arguments.dataset, **given)
    state = process_state()
    if state.is_main_process:
        arguments.print_end(summary, "data/, contexts.json")
    state.destroy_process_group()


if __name__ == "__main__":
    main()
