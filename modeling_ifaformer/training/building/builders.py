"""Builders of the processor and the model that a training begins with, of any system."""

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from datasets import Dataset
from huggingface_hub.errors import HFValidationError
from transformers import AutoConfig
from transformers.utils import CONFIG_NAME

from modeling_ifaformer.checkpoints.adapters import check_adaptable, lora_config
from modeling_ifaformer.checkpoints.trained import load_checkpoint, load_processor
from modeling_ifaformer.configuration_ifaformer import IFAformerConfig, configuration_errors
from modeling_ifaformer.modeling_ifaformer import (
    IFAformerForRelationExtraction,
    IFAformerForTokenClassification,
    IFAformerPreTrainedModel,
)
from processing.base_processor import NO_CONTEXT_IN_DEEPKE, SHARED_FIELDS
from processing.features.tokenizer_training import train_wordpiece
from processing.inspection.statistics import has_pictures, split_statistics
from processing.labels import answers_of
from processing.problems import check_at_least_one
from processing.processing_ifaformer import IFAformerProcessor
from processing.tokenizing import WORD_SPLITTERS

from .baselines import baseline_model, baseline_options, baseline_processor
from .shared_parts import (
    IFAFORMER,
    OF_PROCESSOR,
    check_names,
    given_options,
    has_labels_of,
    square_image_processor,
    system_of,
    used_towers,
    with_vocabulary,
    words_of,
)


logger = logging.getLogger(__name__)


# Fields of the configuration that decide what a model is, besides its towers and those that its processor has too.
SWITCHES = (
    *("attention_variant", "text_attends_vision", "vision_attends_text", "layer_map", "text_window"),
    "classifier_dropout",
)


def start_options(model: str | None = None, system: str | None = None) -> dict[str, Any]:
    """
    The options of [`build_processor`] and [`build_model`] where they are not given: those of the trained model that a
    run starts from, a Hub name or folder, else the usual ones of the system.

    Raises:
        OSError, ValueError: as [`load_processor`]; a ValueError for an unknown system or another than the model's.
    """
    names = (*SHARED_FIELDS, *SWITCHES)
    processor = config = None
    if model is not None:
        processor, config = load_processor(model), AutoConfig.from_pretrained(model)
    system = system_of(model, system)
    if system != IFAFORMER:
        return baseline_options(system, config, processor)
    if model is None:
        return {name: getattr(IFAformerConfig, name) for name in names} | {"word_splitter": WORD_SPLITTERS[0]}
    options = {name: getattr(config, name) for name in names}
    return options | {name: getattr(processor, name, None) for name in OF_PROCESSOR}


def _of_ifaformer(
    model: str | None, start: Mapping[str, Any], options: Mapping[str, Any], names: Collection[str]
) -> dict[str, Any]:
    """[`given_options`] of these names. What a model cannot do after what it was trained for is a ValueError."""
    given = given_options({name: value for name, value in start.items() if name in names}, options)
    if model is not None and given["attention_variant"] != start["attention_variant"]:
        raise ValueError(
            f"{model} was trained with the attention variant {start['attention_variant']}, and cannot go on with "
            f"{given['attention_variant']}."
        )
    if model is not None and given["text_attends_vision"] and not start["text_attends_vision"]:
        raise ValueError(
            f"{model} was trained on texts alone (text_attends_vision is false), and has learnt nothing of pictures. "
            "Give it as text_model, beside a vision_model."
        )
    return given


def _check_checkpoints(train_rows: Dataset, **checkpoints: str | None) -> None:
    """Raise an OSError that names the option whose checkpoint is not there, and says where none is needed."""
    for name, checkpoint in checkpoints.items():
        try:
            if checkpoint is not None:
                AutoConfig.from_pretrained(checkpoint)
        except (OSError, ValueError) as error:  # The libraries' messages do not say which of the two it is.
            reason = " ".join(str(error).split())
            is_folder = os.path.isdir(str(checkpoint))
            if is_folder and not os.path.isfile(os.path.join(str(checkpoint), CONFIG_NAME)):
                message = f"{name} {checkpoint!r} is a folder without a {CONFIG_NAME}, and so no model."
            elif is_folder or not isinstance(error, OSError | HFValidationError):
                kind = "folder" if is_folder else "repository"
                message = f"{name} {checkpoint!r} is a {kind} whose {CONFIG_NAME} is that of no known model: {reason}"
            else:
                message = f"{name} {checkpoint!r} is no folder of a model, and the Hub does not give it: {reason}"
            if name == "vision_model" and not has_pictures(split_statistics(train_rows)):
                message += (
                    " No training row has a picture: a model that reads texts alone needs no vision tower; set "
                    "text_attends_vision to false."
                )
            raise OSError(message) from error


def _check_no_baseline(system_config: Mapping[str, Any] | None, word_vectors: str | None) -> None:
    if system_config or word_vectors:
        name = "system_config" if system_config else "word_vectors"
        raise ValueError(f"{name} is for a baseline: name one with system.")


def build_processor(
    train_rows: Dataset,
    *,
    model: str | None = None,
    text_model: str | None = None,
    vision_model: str | None = None,
    text_config: dict[str, Any] | None = None,
    vision_config: dict[str, Any] | None = None,
    system: str | None = None,
    system_config: dict[str, Any] | None = None,
    word_vectors: str | None = None,
    other_rows: Sequence[Dataset] = (),
    vocab_size: int = 4000,
    **options: Any,
) -> IFAformerProcessor:
    """
    The processor for these rows, also where a tower has no checkpoint.

    Args:
        train_rows: rows as `load_data` gives them, whose tags or relations the processor gets. A fresh text tower
            gets a tokenizer that is learnt from their words.
        model: a trained IFAformer that the run starts from, Hub name or folder. It takes the place of the towers that
            the other arguments name; a warning says which of these are not used.
        text_model, vision_model: checkpoints that the towers start from, Hub names or folders. None is a fresh tower.
        text_config, vision_config: configurations of fresh towers.
        system: of the new model: `ifaformer` (the default) or one of the baselines, see [`BaselineConfig`].
        system_config: fields of [`BaselineConfig`], for a baseline.
        word_vectors: a file that [`read_word_vectors`] reads, for the system `cnn_bilstm`, whose tokenizer has the
            words of the training texts as a whole.
        other_rows: rows that are not trained on. Those of their words that have a vector are known too.
        vocab_size: how many entries a learnt tokenizer of pieces of words has at most.
        **options: `attention_variant` and `text_attends_vision` of the model, and options of
            [`IFAformerProcessor`]; by default those of `model`. Without one, `max_length` is for relations the longest
            text in tokens that the text tower takes; for entities nothing is cut. None stands for an option that is
            not given. Where the text does not attend to vision, `vision_model` is not used.

    Raises:
        ValueError: for an option that the system does not know, for the `deepke` variant without a `max_length`, for
            a field in `text_config` or `vision_config` that no such tower has, for another variant than that of
            `model`, for a text that attends to vision where that of `model` does not, and as [`start_options`],
            [`IFAformerProcessor.from_vision_text_pretrained`] and [`IFAformerConfig.from_vision_text_pretrained`].
        OSError: for a checkpoint that is not there.
    """
    check_at_least_one(vocab_size=vocab_size, max_length=options.get("max_length"))
    start, system = start_options(model, system), system_of(model, system)
    towers: dict[str, Any] = {"text_model": text_model, "vision_model": vision_model}
    configs = {"text_config": text_config, "vision_config": vision_config}
    towers |= configs
    if model is None:
        # VisualBERT takes fields of its own beside BERT's, and a baseline's vision tower has to be named.
        text_type = "bert" if system != "visual_bert" else None
        vision_type = "clip_vision_model" if system == IFAFORMER else None
        check_names(configs, {"text_config": text_type, "vision_config": vision_type})
    if system != IFAFORMER:
        if model is None:
            _check_checkpoints(train_rows, text_model=text_model, vision_model=vision_model)
        options |= {**towers, "system_config": system_config, "word_vectors": word_vectors, "other_rows": other_rows}
        return baseline_processor(train_rows, start, model=model, vocab_size=vocab_size, **options)
    _check_no_baseline(system_config, word_vectors)
    of_both = ("attention_variant", "text_attends_vision")
    options = _of_ifaformer(model, start, options, (*SHARED_FIELDS, *OF_PROCESSOR, *of_both))
    towers = used_towers(system, model, towers, options.pop("text_attends_vision"))
    if model is None:
        _check_checkpoints(train_rows, text_model=towers["text_model"], vision_model=towers["vision_model"])
    else:
        negative = start["negative_relation"]  # It may not be among the relations of these rows.
        if negative == options["negative_relation"] and negative not in answers_of(train_rows).get("relations", ()):
            del options["negative_relation"]
    deepke = options.pop("attention_variant") == "deepke"
    max_length, use_whole_image = options.pop("max_length", None), options.pop("use_whole_image")
    if deepke and max_length is None:
        raise ValueError(
            "The attention variant deepke pads all batches to one length, on which its results depend. Give that "
            "length, max_seq_length on the command line: the published recipes have 40, for relations 80."
        )
    if deepke and options.get("max_context_length"):
        raise ValueError(NO_CONTEXT_IN_DEEPKE)
    tokenizer = image_processor = None
    if towers["text_model"] is None:
        tokenizer = train_wordpiece(words_of(train_rows, options.get("max_context_length")), vocab_size)
    if towers["vision_model"] is None:  # which else says these sizes
        usual = IFAformerConfig.from_vision_text_pretrained(vision_config=towers["vision_config"])
        image_processor = square_image_processor(usual.picture_size)
        sizes = {name: getattr(usual, name) for name in ("aux_crop_size", "rcnn_crop_size")}
        options |= {name: size for name, size in sizes.items() if options[name] is None}
    with configuration_errors():
        processor = IFAformerProcessor.from_vision_text_pretrained(
            towers["vision_model"],
            towers["text_model"],
            train_rows,
            image_processor=image_processor,
            tokenizer=tokenizer,
            max_length=max_length,
            pad_to_max_length=deepke,
            use_whole_image=not deepke if use_whole_image is None else use_whole_image,
            **options,
        )
    # What the model's configuration refuses is said now, before features are prepared.
    fields = {**with_vocabulary(towers, processor, system), **processor.config_fields}
    config = IFAformerConfig.from_vision_text_pretrained(**fields)
    processor = processor.for_model_of(config)
    if processor.relations is not None and processor.negative_relation is None:
        logger.warning(
            f"None of the relations {', '.join(processor.relations)} is known to say that there is none, so all of "
            "them count in precision, recall and F1. Name the one that does with negative_relation."
        )
    return processor


def build_model(
    processor: IFAformerProcessor,
    *,
    model: str | None = None,
    text_model: str | None = None,
    vision_model: str | None = None,
    text_config: dict[str, Any] | None = None,
    vision_config: dict[str, Any] | None = None,
    system: str | None = None,
    system_config: dict[str, Any] | None = None,
    word_vectors: str | None = None,
    lora: Mapping[str, Any] | None = None,
    **fields: Any,
) -> IFAformerPreTrainedModel:
    """
    A new model for the processor: for relations if it has relations, else for entities.

    It begins as a trained `model`, whose head it gets where the labels are the same in the same order, or with the
    weights of towers. What has no weights to begin with is freshly initialised.

    Args:
        model, text_model, vision_model, text_config, vision_config, system, system_config, word_vectors: as
            for [`build_processor`].
        lora: options of [`lora_config`], for a model with adapters of peft; None for one without.
        **fields: of [`IFAformerConfig`], of which a baseline knows `classifier_dropout` alone, besides those that the
            processor gives, and options of [`IFAformerPreTrainedModel.from_vision_text_pretrained`]. None stands for
            one that is not given.

    Returns:
        The model; with `lora` the `PeftModel` around it.

    Raises:
        ValueError: for a `text_window` of a new model for relations, as
            [`IFAformerPreTrainedModel.from_vision_text_pretrained`], with `lora` as [`check_adaptable`] and
            [`lora_config`], and for a `model` with another attention variant, or without pictures where this one
            looks at them.
        OSError: for a checkpoint that is not there.
        ImportError: with `lora`, where peft is not installed.
    """
    start, system = start_options(model, system), system_of(model, system)
    towers: dict[str, Any] = {"text_model": text_model, "vision_model": vision_model}
    if lora is not None:
        check_adaptable(lora, model=model, system=system, **towers, **fields)
    towers |= {"text_config": text_config, "vision_config": vision_config}
    if system != IFAFORMER:
        fields |= {**towers, "system_config": system_config, "word_vectors": word_vectors}
        return _without_paths(baseline_model(processor, start, model=model, **fields))
    _check_no_baseline(system_config, word_vectors)
    model_class: type[IFAformerPreTrainedModel] = IFAformerForTokenClassification
    if processor.relations is not None:
        if model is None and fields.get("text_window") is not None:
            raise ValueError(
                "text_window is for models for entities. A model for relations cuts a longer text around the two "
                "entities: set max_length, max_seq_length on the command line."
            )
        model_class = IFAformerForRelationExtraction
    fields = _of_ifaformer(model, start, fields, SWITCHES) | processor.config_fields
    looks = fields["text_attends_vision"]
    towers = used_towers(system, model, towers, looks, are_told_of=False)  # The processor's warning has told.
    new = model_class.from_vision_text_pretrained(**with_vocabulary(towers, processor, system), **fields)
    if model is not None:
        _copy_head(model, new)
    _without_paths(new)
    if lora is None:
        return new
    from peft import get_peft_model

    return get_peft_model(new, lora_config(new, processor, **lora))  # type: ignore[return-value]


def _without_paths(model: IFAformerPreTrainedModel) -> IFAformerPreTrainedModel:
    """The model, whose configuration names no folder: the path is nobody's business where it is published."""
    for tower in (model.config.text_config, model.config.vision_config):
        if tower is not None and os.path.exists(tower._name_or_path):
            tower._name_or_path = ""
    return model


def _copy_head(source: str, model: IFAformerPreTrainedModel) -> None:
    """Give a model the head of a trained one, if that has the same labels."""
    trained, _ = load_checkpoint(source)
    if not has_labels_of(model, trained, source):
        return
    for name, module in model.named_children():
        if name != model.base_model_prefix:
            module.load_state_dict(getattr(trained, name).state_dict())
