"""The processor and the model of a baseline that a training begins with."""

import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoConfig, AutoTokenizer

from modeling_ifaformer.checkpoints.trained import load_checkpoint
from modeling_ifaformer.configuration_baseline import VISION_MODEL_TYPES, BaselineConfig
from modeling_ifaformer.configuration_ifaformer import TaggerConfig
from modeling_ifaformer.modeling_baseline import BaselineForTokenClassification
from processing.base_processor import SHARED_FIELDS
from processing.features.tokenizer_training import make_word_tokenizer, train_wordpiece
from processing.features.word_vectors import read_word_vectors
from processing.labels import answers_of
from processing.processing_ifaformer import IFAformerProcessor
from processing.tokenizing import WORD_SPLITTERS, check_tokenizer

from .shared_parts import (
    OF_PROCESSOR,
    TOWER_OPTIONS,
    given_options,
    has_labels_of,
    square_image_processor,
    used_towers,
    with_vocabulary,
    words_of,
)


logger = logging.getLogger(__name__)

# The fields that `system_config` may have: those of a baseline, but for the ones that are options by themselves.
_SHARED = {field.name for field in dataclasses.fields(TaggerConfig)} - {"image_size", "text_window"}
SYSTEM_FIELDS = tuple(
    field.name for field in dataclasses.fields(BaselineConfig) if field.name not in {*_SHARED, "system", "vocab_size"}
)
OF_IFAFORMER = (
    *("attention_variant", "vision_attends_text", "layer_map", "text_window", "entity_markers", "negative_relation"),
)
VISUAL_BERT_TOKENIZER = "google-bert/bert-base-uncased"


def baseline_options(system: str, config: Any = None, processor: IFAformerProcessor | None = None) -> dict[str, Any]:
    """As [`start_options`], for a baseline, of the configuration and the processor of a trained one."""
    options: dict[str, Any] = dict.fromkeys((*OF_IFAFORMER, *OF_PROCESSOR))
    source = BaselineConfig if config is None else config
    options |= {name: getattr(source, name) for name in (*SHARED_FIELDS, "classifier_dropout")}
    if config is None:
        with_pictures = system != "cnn_bilstm"
        options |= {"word_splitter": WORD_SPLITTERS[0], "use_whole_image": with_pictures, "system_config": {}}
    else:
        with_pictures = config.text_attends_vision
        options |= {name: getattr(processor, name, None) for name in OF_PROCESSOR if name not in OF_IFAFORMER}
        options["system_config"] = {name: getattr(config, name) for name in SYSTEM_FIELDS}
    return options | {"system": system, "text_attends_vision": with_pictures}


def _of_baseline(start: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """[`given_options`] that a baseline has. Those of IFAformer alone are a ValueError."""
    given = given_options(start, options)
    for name in (*OF_IFAFORMER, "text_attends_vision"):
        if given.pop(name) != start[name]:
            elsewhere = " Give it in system_config." if name in SYSTEM_FIELDS else ""
            raise ValueError(f"{name} is an option of IFAformer, and the system is {start['system']}.{elsewhere}")
    given["system_config"] = {**start["system_config"], **given["system_config"]}
    unknown = sorted(given["system_config"].keys() - {*SYSTEM_FIELDS})
    if unknown:
        raise ValueError(f"system_config has {', '.join(unknown)}; a baseline has {', '.join(SYSTEM_FIELDS)}.")
    return given


def baseline_processor(
    train_rows: Dataset,
    start: Mapping[str, Any],
    *,
    model: str | None = None,
    vocab_size: int = 4000,
    word_vectors: str | None = None,
    other_rows: Sequence[Dataset] = (),
    **options: Any,
) -> IFAformerProcessor:
    """As [`build_processor`], for a baseline that starts with these [`baseline_options`]."""
    system = start["system"]
    if "relations" in answers_of(train_rows):
        raise ValueError(f"The system {system} finds entities (task ner), and the rows have relations.")
    _check_word_vectors(system, model, word_vectors)
    towers = used_towers(system, model, {name: options.pop(name, None) for name in TOWER_OPTIONS})
    if towers["vision_config"] is not None and "model_type" not in towers["vision_config"]:
        raise ValueError(f"vision_config of {system} needs its model_type: {' or '.join(VISION_MODEL_TYPES)}.")
    if options.get("word_shapes"):  # of a recipe, for example
        logger.warning(f"word_shapes is not used: {system} has no embeddings of the shapes of words.")
    options = _of_baseline(start, {**options, "word_shapes": False})
    of_system = {"system": system, **options.pop("system_config")}
    del options["system"], options["classifier_dropout"]
    max_length = options.pop("max_length")
    # What the configuration refuses is said now, before features are prepared.
    config: Any = BaselineConfig.from_vision_text_pretrained(**towers, **of_system)
    if config.vision_config is not None and towers["vision_model"] is None and config.freeze_vision:
        logger.warning(
            "The vision tower begins with random numbers and stays as it is. Name a vision_model, or set "
            "freeze_vision to false in system_config."
        )
    tokenizer = image_processor = None
    if system == "cnn_bilstm":
        options |= {"max_word_bytes": config.max_word_bytes}
    if model is None and system == "cnn_bilstm":
        tokenizer = make_word_tokenizer(_vocabulary(train_rows, other_rows, word_vectors, config))
    elif towers["text_model"] is None:
        tokenizer = train_wordpiece(words_of(train_rows, options.get("max_context_length")), vocab_size)
    elif model is None:
        tokenizer = _visual_bert_tokenizer(towers["text_model"])
    is_resnet = config.vision_config is not None and config.vision_config.model_type == "resnet"
    if model is None and (towers["vision_model"] is None or is_resnet):
        image_processor = square_image_processor(config.image_size, is_resnet)
    for kind in ("aux", "rcnn"):
        options[f"{kind}_crop_size"] = options[f"{kind}_crop_size"] or config.image_size
    processor = IFAformerProcessor.from_vision_text_pretrained(
        towers["vision_model"],
        towers["text_model"],
        train_rows,
        image_processor=image_processor,
        tokenizer=tokenizer,
        max_length=max_length,
        **{name: value for name, value in options.items() if value is not None},
    )
    fields = {**with_vocabulary(towers, processor, system), **of_system, **processor.config_fields}
    config = BaselineConfig.from_vision_text_pretrained(**fields)
    return processor.for_model_of(config)


def baseline_model(
    processor: IFAformerProcessor,
    start: Mapping[str, Any],
    *,
    model: str | None = None,
    allow_missing_weights: bool = False,
    attn_implementation: str | None = None,
    word_vectors: str | None = None,
    **options: Any,
) -> BaselineForTokenClassification:
    """As [`build_model`], for a baseline that starts with these [`baseline_options`]."""
    system = start["system"]
    towers = {name: options.pop(name, None) for name in TOWER_OPTIONS}
    towers = used_towers(system, model, towers, are_told_of=False)  # The processor's warning has told.
    options = _of_baseline(start, options)
    fields = {"system": system, **options["system_config"], "classifier_dropout": options["classifier_dropout"]}
    fields |= {**with_vocabulary(towers, processor, system), **processor.config_fields}
    if attn_implementation is not None:
        fields["attn_implementation"] = attn_implementation
    if model is not None:
        new = BaselineForTokenClassification(BaselineConfig.from_vision_text_pretrained(**fields))
        _copy_weights(model, new)
        return new
    new = BaselineForTokenClassification.from_vision_text_pretrained(
        **fields, allow_missing_weights=allow_missing_weights
    )
    if word_vectors is not None:
        vocabulary = processor.tokenizer.get_vocab()
        with torch.no_grad():
            for word, vector in _vectors(word_vectors, vocabulary, new.config).items():
                new.get_input_embeddings().weight[vocabulary[word]] = torch.from_numpy(vector)
    return new


def _check_word_vectors(system: str, model: str | None, word_vectors: str | None) -> None:
    if word_vectors is not None and (system != "cnn_bilstm" or model is not None):
        raise ValueError("word_vectors is for a new model of the system cnn_bilstm alone.")
    if word_vectors is None and system == "cnn_bilstm" and model is None:
        logger.warning(
            "Without word_vectors the words of cnn_bilstm begin with random numbers, and it knows those of the "
            "training texts alone: published results of this system have vectors."
        )


def _visual_bert_tokenizer(text_model: str) -> Any:
    """BERT's tokenizer for a published VisualBERT, which comes without one. None for any other checkpoint."""
    if AutoConfig.from_pretrained(text_model).model_type != "visual_bert":
        return None
    try:
        tokenizer = AutoTokenizer.from_pretrained(text_model)
        check_tokenizer(tokenizer)
    except (OSError, ValueError):
        logger.warning(f"{text_model} has no tokenizer; that of {VISUAL_BERT_TOKENIZER} is used, as it was for it.")
        tokenizer = AutoTokenizer.from_pretrained(VISUAL_BERT_TOKENIZER)
    return tokenizer


def _vectors(path: str, words: Collection[str], config: BaselineConfig) -> dict[str, np.ndarray]:
    """The vectors that the file has of these words, of the width of the model's, else a ValueError."""
    vectors = read_word_vectors(path, words)
    size = len(next(iter(vectors.values()), [0] * config.word_size))
    if size != config.word_size:
        raise ValueError(
            f"The vectors in {path} have {size} numbers, the model's words {config.word_size}. Set word_size in "
            f"system_config to {size}."
        )
    return vectors


def _vocabulary(
    train_rows: Dataset, other_rows: Sequence[Dataset], word_vectors: str | None, config: BaselineConfig
) -> set[str]:
    """The words of the training texts, and those of other texts that have a vector, as if all vectors were kept."""
    words = {*words_of(train_rows)}
    if word_vectors is None:
        return words
    others = {word for rows in other_rows for word in words_of(rows)}
    vectors = _vectors(word_vectors, words | others, config)
    known = len(words & vectors.keys())
    message = f"{word_vectors} has vectors of {known} of the {len(words)} words of the training texts."
    if 2 * known < len(words):
        logger.warning(
            f"{message} The others begin with random numbers. Are the vectors of the language of the texts?"
        )
    else:
        logger.info(message)
    return words | (others & vectors.keys())


def _copy_weights(source: str, model: BaselineForTokenClassification) -> None:
    """Give a model the weights of a trained one, those of the head only if that has the same labels."""
    trained, _ = load_checkpoint(source)
    wanted, found = model.state_dict(), trained.state_dict()
    others = [name for name in wanted if name not in found or wanted[name].shape != found[name].shape]
    if not has_labels_of(model, trained, source):
        others += [name for name in wanted if not name.startswith(("encoder.", "vision_model."))]
    resized = [name for name in others if name.startswith(("encoder.", "vision_model."))]
    if resized:
        raise ValueError(
            f"{source} has layers of other sizes than this model, such as {resized[0]}. Leave out of system_config "
            "what changes them."
        )
    model.load_state_dict({name: value for name, value in found.items() if name not in others}, strict=False)
