"""
Turn a checkpoint of the published implementation (DeepKE) into a folder that the auto classes load.

    python scripts/convert_deepke_checkpoint.py best_model.pth --task ner \
        --text_model bert-base-uncased --vision_model openai/clip-vit-base-patch32 --output ifaformer-twitter2017
    python scripts/convert_deepke_checkpoint.py best_model.pth --task re --relations ours_rel2id.json \
        --text_model bert-base-uncased --vision_model openai/clip-vit-base-patch32 --output ifaformer-mnre

The two models give configuration, tokenizer and image processor; all weights come from the checkpoint.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, CLIPImageProcessorPil

from ifaformer_commands.command_line import parse_arguments
from modeling_ifaformer import IFAformerForRelationExtraction, IFAformerForTokenClassification
from modeling_ifaformer.checkpoints.deepke import (
    deepke_config,
    load_deepke_weights,
    read_deepke_checkpoint,
    rename_deepke_keys,
)
from processing import IFAformerProcessor
from processing.labels import label_maps


PUBLISHED_MAX_LENGTH = {"ner": 40, "re": 80}


@dataclass
class ConversionArguments:
    checkpoint: str | None = field(default=None, metadata={"help": "the .pth file"})
    task: str = field(default="ner", metadata={"help": "what it was trained for", "choices": ["ner", "re"]})
    text_model: str = field(default="bert-base-uncased", metadata={"help": "the text model training started from"})
    vision_model: str = field(
        default="openai/clip-vit-base-patch32", metadata={"help": "the vision model training started from"}
    )
    output: str = field(default="ifaformer-converted", metadata={"help": "folder to write"})
    relations: str | None = field(
        default=None, metadata={"help": "for --task re: JSON file from relation names to ids (ours_rel2id.json)"}
    )
    max_seq_length: int | None = field(
        default=None, metadata={"help": "of training; the published 40 (ner) or 80 (re) if left out"}
    )


def read_relations(path: str | None) -> list[str]:
    """
    Relation names in id order.

    Raises:
        ValueError: where the file is missing from the arguments or does not number its relations 0, 1, 2, ...
    """
    if path is None:
        raise ValueError("--task re needs --relations, the JSON file from relation names to ids (ours_rel2id.json).")
    relations = json.loads(Path(path).read_text(encoding="utf-8"))
    names = sorted(relations, key=relations.get)
    if [relations[name] for name in names] != list(range(len(names))):
        raise ValueError(f"{path} must number its relations 0..{len(names) - 1}, got {sorted(relations.values())}.")
    return names


def main() -> None:
    arguments, _ = parse_arguments(ConversionArguments, description=__doc__, positional="checkpoint")
    if arguments.checkpoint is None:
        raise SystemExit("Name the checkpoint: convert_deepke_checkpoint.py best_model.pth")
    state_dict = read_deepke_checkpoint(arguments.checkpoint)
    renamed = rename_deepke_keys(state_dict)

    vision_config = AutoConfig.from_pretrained(arguments.vision_model)
    vision_config = getattr(vision_config, "vision_config", vision_config)
    try:
        image_processor = AutoImageProcessor.from_pretrained(arguments.vision_model)
    except OSError:
        size = vision_config.image_size
        image_processor = CLIPImageProcessorPil(
            size={"shortest_edge": size}, crop_size={"height": size, "width": size}
        )
        print(f"{arguments.vision_model} has no image processor; CLIP's with a size of {size} is used.")
    processor = IFAformerProcessor(
        image_processor,
        AutoTokenizer.from_pretrained(arguments.text_model),
        label_scheme="deepke",
        max_length=arguments.max_seq_length or PUBLISHED_MAX_LENGTH[arguments.task],
        relations=read_relations(arguments.relations) if arguments.task == "re" else None,
        pad_to_max_length=True,
        use_whole_image=False,
    )
    model_class, config_kwargs = IFAformerForTokenClassification, label_maps(processor.labels)
    if arguments.task == "re":
        model_class = IFAformerForRelationExtraction
        markers = processor.add_entity_markers()
        config_kwargs |= {"head_marker_token_id": markers[0], "tail_marker_token_id": markers[2]}
    model = model_class(
        deepke_config(renamed, AutoConfig.from_pretrained(arguments.text_model), vision_config, **config_kwargs)
    )
    if len(processor.tokenizer) > model.config.text_config.vocab_size:
        raise ValueError(
            f"The tokenizer of {arguments.text_model} has {len(processor.tokenizer)} entries (markers included), the "
            f"checkpoint's vocabulary {model.config.text_config.vocab_size}."
        )
    load_deepke_weights(model, renamed)

    model.save_pretrained(arguments.output)
    processor.save_pretrained(arguments.output)
    print(
        f"{len(renamed)} tensors converted, {len(state_dict) - len(renamed)} index buffers left out as they are "
        f"made anew. Written: {arguments.output}"
    )


if __name__ == "__main__":
    main()
