"""Options of the model that a training makes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ifaformer_commands.options.command_line import option


@dataclass
class TowerArguments:
    """Options of the two towers."""

    model: str | None = option(
        "Start from this trained model, Hub name or folder, in place of text_model and vision_model: with its "
        "towers, with its head where the labels are the same, and with its settings where no others are given."
    )
    text_model: str | None = option(
        "A checkpoint of BERT, RoBERTa, XLM-RoBERTa, ELECTRA, DistilBERT or ModernBERT, Hub name or folder. By "
        "default the tower is fresh."
    )
    vision_model: str | None = option(
        "A checkpoint of CLIP, SigLIP, ViT or DINOv2, Hub name or folder. By default the tower is fresh."
    )
    text_config: dict | None = option(
        "The configuration of a fresh text tower, as JSON. It is a BERT's, or that of its model_type."
    )
    vision_config: dict | None = option(
        "The configuration of a fresh vision tower, as JSON. It is a CLIP's, or that of its model_type."
    )
    system: str | None = option(
        "The kind of model: ifaformer, the default, or one of the systems that it is compared with.",
        choices=["ifaformer", "cnn_bilstm", "co_attention", "visual_bert", "vilbert", "umt", "hvpnet"],
    )
    system_config: dict | None = option("Settings of such a system, as JSON, such as freeze_vision and image_size.")
    word_vectors: str | None = option(
        "A text file of word vectors, as of GloVe, for the system cnn_bilstm; system_config then has their word_size."
    )
    attention_variant: str | None = option(
        "Attention of the paper (corrected, the default), of DeepKE, or of MKGformer.",
        choices=["corrected", "deepke", "mkgformer"],
    )


@dataclass
class ReadingArguments:
    """Options of what the model reads."""

    vocab_size: int = option("How many entries the tokenizer of a fresh text tower has at most.", 4000)
    label_scheme: str | None = option(
        "The CRF scores one token of each word (word, the default), or all (deepke).", choices=["word", "deepke"]
    )
    word_shapes: bool | None = option(
        "Tell the model the shape of each word, such as capitals or digits, which an uncased tokenizer does not keep."
    )
    entity_markers: list[str] | None = option("Four tokens around head and tail, by default <s> </s> <o> </o>.")
    negative_relation: str | None = option("The relation that means no relation. By default it is the one named None.")
    max_context_length: int | None = option(
        "Read so many tokens of a tweet's context (a caption, letters of the picture) behind its text. By default 0."
    )
    use_whole_image: bool | None = option("Read whole pictures. By default it is true, except in the deepke variant.")
    max_images: int | None = option("How many pictures of a text are read at most. By default it is 1.")
    num_aux_crops: int | None = option("How many crops by visual grounding a picture has at most. By default it is 3.")
    aux_crop_size: int | None = option(
        "The height and width of these crops in pixels. By default it is 128, or the nearest number of whole patches."
    )
    num_rcnn_crops: int | None = option(
        "How many crops by an object detector a picture has at most. By default it is 3."
    )
    rcnn_crop_size: int | None = option(
        "The height and width of these crops in pixels. By default it is 64, or the nearest number of whole patches."
    )
    max_megapixels: float | None = option(
        "The largest picture in millions of pixels. By default it is 25; of a JPEG, which is then decoded smaller, it "
        "is four times that."
    )


@dataclass
class ModelArguments:
    """Options of the model."""

    text_attends_vision: bool | None = option("With false, the model reads the text alone: the text-only ablation.")
    vision_attends_text: bool | None = option("With false, the vision tower does not see the text.")
    layer_map: list[int] | None = option(
        "Of each text layer the vision layer that it reads, counted from 0. By default they are spread evenly."
    )
    text_window: int | None = option(
        "How many tokens of a text a model for entities reads at once. Longer texts are read in windows. By default "
        "it is what the text tower takes."
    )
    classifier_dropout: float | None = option("Dropout before the classifier. By default it is 0.1 (relations: 0.5).")
    allow_missing_weights: bool = option(
        "Go on with fresh weights where a checkpoint lacks more than a twentieth of the tensors of its tower.", False
    )
    attn_implementation: str | None = option("The implementation of attention: sdpa or eager.")


@dataclass
class AdapterArguments:
    """Options of adapters."""

    lora: bool = option("Train adapters (LoRA, by peft) in place of the weights of pretrained towers.", False)
    lora_rank: int = option("The rank of the adapters' matrices.", 8)
    lora_alpha: float | None = option("The scale of the adapters, times the rank. By default it is twice the rank.")
    lora_dropout: float = option("Dropout in front of the adapters.", 0.0)
    lora_target_modules: list[str] | None = option(
        "The linear layers that are adapted, by the last parts of their names, such as query and q_proj. By default "
        "they are all of the towers' layers."
    )

    def of_adapters(self) -> dict[str, Any] | None:
        """The options of the adapters by their names without `lora_`; None where there are none."""
        options = {name.removeprefix("lora_"): value for name, value in vars(self).items() if name != "lora"}
        return options if self.lora else None


def fill(start: Mapping[str, Any], *groups: Any) -> None:
    """Give those options of dataclasses that the command line leaves out the values that a training starts with."""
    for group in groups:
        for name, value in vars(group).items():
            if value is None:
                setattr(group, name, start.get(name))
