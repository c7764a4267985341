"""The processor and the model that a training begins with."""

import logging
import os
from typing import Any

from datasets import Dataset
from transformers import CLIPImageProcessorPil, CLIPVisionConfig

from modeling_ifaformer.configuration_ifaformer import IFAformerConfig, configuration_errors
from modeling_ifaformer.modeling_ifaformer import (
    IFAformerForRelationExtraction,
    IFAformerForTokenClassification,
    IFAformerPreTrainedModel,
)
from processing.features.tokenizer_training import train_wordpiece
from processing.processing_ifaformer import IFAformerProcessor


logger = logging.getLogger(__name__)


def build_processor(
    train_rows: Dataset,
    *,
    text_model: str | None = None,
    vision_model: str | None = None,
    text_config: dict[str, Any] | None = None,
    vision_config: dict[str, Any] | None = None,
    vocab_size: int = 4000,
    attention_variant: str = "corrected",
    max_length: int | None = None,
    use_whole_image: bool | None = None,
    **options: Any,
) -> IFAformerProcessor:
    """
    The processor for these rows, also where a tower has no checkpoint.

    Args:
        train_rows: rows as `load_data` gives them, whose tags or relations the processor gets. A fresh text tower
            gets a tokenizer that is learnt from their words.
        text_model, vision_model: checkpoints that the towers start from, Hub names or folders. None is a fresh tower.
        text_config, vision_config: configurations of fresh towers.
        vocab_size: how many entries a learnt tokenizer has at most.
        attention_variant: of the model.
        max_length: longest text in tokens. By default it is the longest that the text tower takes.
        use_whole_image: as in [`IFAformerConfig`].
        **options: of [`IFAformerProcessor`].

    Raises:
        ValueError: for the `deepke` variant without a `max_length`, and as
            [`IFAformerProcessor.from_vision_text_pretrained`] and [`IFAformerConfig.from_vision_text_pretrained`].
        OSError: for a checkpoint that is not there.
    """
    deepke = attention_variant == "deepke"
    if deepke and max_length is None:
        raise ValueError(
            "The attention variant deepke pads all batches to one length, on which its results depend. Give that "
            "length, max_seq_length on the command line: the published recipes have 40, for relations 80."
        )
    tokenizer = image_processor = None
    if text_model is None:
        tokenizer = train_wordpiece((word for tokens in train_rows["tokens"] for word in tokens), vocab_size)
    if vision_model is None:
        with configuration_errors():
            size: Any = CLIPVisionConfig(**(vision_config or {})).image_size
        image_processor = CLIPImageProcessorPil(
            size={"shortest_edge": size}, crop_size={"height": size, "width": size}
        )
    with configuration_errors():
        processor = IFAformerProcessor.from_vision_text_pretrained(
            vision_model,
            text_model,
            train_rows,
            image_processor=image_processor,
            tokenizer=tokenizer,
            max_length=max_length,
            pad_to_max_length=deepke,
            use_whole_image=not deepke if use_whole_image is None else use_whole_image,
            **options,
        )
    # What the model's configuration refuses is said now, before features are prepared.
    config = IFAformerConfig.from_vision_text_pretrained(
        vision_model,
        text_model,
        text_config=_text_config(processor, text_model, text_config),
        vision_config=vision_config,
        **processor.config_fields,
    )
    if max_length is None:  # A fresh text tower has no checkpoint that the processor could ask.
        processor.max_length = config.max_text_length
    if processor.relations is not None and processor.negative_relation is None:
        logger.warning(
            f"None of the relations {', '.join(processor.relations)} is known to say that there is none, so all of "
            "them count in precision, recall and F1. Name the one that does with negative_relation."
        )
    return processor


def build_model(
    processor: IFAformerProcessor,
    *,
    text_model: str | None = None,
    vision_model: str | None = None,
    text_config: dict[str, Any] | None = None,
    **fields: Any,
) -> IFAformerPreTrainedModel:
    """
    A new model for the processor: for relations if it has relations, else for entities.

    Args:
        text_model, vision_model, text_config: as for [`build_processor`].
        **fields: `vision_config` and other fields of [`IFAformerConfig`], besides those that the processor gives.

    Raises:
        ValueError: as [`IFAformerConfig.from_vision_text_pretrained`].
        OSError: for a checkpoint that is not there.
    """
    model_class: type[IFAformerPreTrainedModel] = IFAformerForTokenClassification
    if processor.relations is not None:
        model_class = IFAformerForRelationExtraction
    text_config = _text_config(processor, text_model, text_config)
    model = model_class.from_vision_text_pretrained(
        vision_model, text_model, text_config=text_config, **processor.config_fields, **fields
    )
    for tower in (model.config.text_config, model.config.vision_config):
        if os.path.exists(tower._name_or_path):  # The path is nobody's business where the configuration is published.
            tower._name_or_path = ""
    return model


def _text_config(
    processor: IFAformerProcessor, text_model: str | None, text_config: dict[str, Any] | None
) -> dict[str, Any] | None:
    """A fresh text tower embeds no more than the tokenizer has."""
    if text_model is not None:
        return text_config
    tokenizer = processor.tokenizer
    return {**(text_config or {}), "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
