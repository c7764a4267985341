r"""
Turn a checkpoint of the published implementation (DeepKE) into a folder that the auto classes load.

    python scripts/convert_deepke_checkpoint.py best_model.pth --task ner \
        --text_model bert-base-uncased --vision_model openai/clip-vit-base-patch32 --output ifaformer-twitter2017
    python scripts/convert_deepke_checkpoint.py best_model.pth --task re --relations ours_rel2id.json \
        --text_model bert-base-uncased --vision_model openai/clip-vit-base-patch32 --output ifaformer-mnre

The two models give the configuration, the tokenizer and the image processor. All weights come from the checkpoint.
"""

from dataclasses import dataclass
from pathlib import Path

from ifaformer_commands.options.command_line import option, parse_arguments, user_errors
from ifaformer_commands.options.data_options import TASKS


@dataclass
class ConversionArguments:
    """Options of the conversion."""

    checkpoint: str | None = option("The .pth file that is converted.")
    task: str = option("What the checkpoint was trained for: entities (ner) or relations (re).", "ner", choices=TASKS)
    text_model: str = option(
        "The text model that training started from: its name on the Hub or its folder.", "bert-base-uncased"
    )
    vision_model: str = option(
        "The vision model that training started from: its name on the Hub or its folder.",
        "openai/clip-vit-base-patch32",
    )
    output: str = option("The folder that is written.", "ifaformer-converted")
    relations: str | None = option("With --task re: the JSON file from relation names to ids (ours_rel2id.json).")
    max_seq_length: int | None = option(
        "The longest text of training in tokens. The published lengths are 40 (ner) and 80 (re)."
    )


def main() -> None:
    arguments, _ = parse_arguments(ConversionArguments, description=__doc__, positional="checkpoint")
    if arguments.checkpoint is None:
        raise SystemExit("Name the checkpoint, a .pth file, as the first argument.")
    if not Path(arguments.checkpoint).is_file():
        raise SystemExit(f"There is no file {arguments.checkpoint}. Name the checkpoint, a .pth file.")
    if arguments.task == "re" and arguments.relations is None:
        raise SystemExit("--task re needs --relations, the JSON file from relation names to ids (ours_rel2id.json).")

    from modeling_ifaformer.checkpoints.deepke import convert_deepke_checkpoint
    from processing.data.label_ids import read_label_ids

    with user_errors():
        done = convert_deepke_checkpoint(
            arguments.checkpoint,
            arguments.output,
            arguments.task,
            text_model=arguments.text_model,
            vision_model=arguments.vision_model,
            relations=read_label_ids(arguments.relations) if arguments.task == "re" else None,
            max_length=arguments.max_seq_length,
        )
    print(
        f"{done.num_tensors} tensors are converted. {done.num_index_buffers} index buffers are left out, since the "
        f"model makes them itself. Written: {arguments.output}"
    )


if __name__ == "__main__":
    main()
