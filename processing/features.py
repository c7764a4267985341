"""
Features of a data set's rows, computed once: token ids and uint8 pixels in a memory-mapped file, which later epochs,
later runs and all worker processes read without decoding a picture.
"""

import glob
import inspect
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import PIL
import tokenizers
import torch
import transformers
from datasets import Dataset, Features, List, Value
from datasets.fingerprint import Hasher
from filelock import FileLock

from .cache_errors import NO_WRITING, cache_errors
from .collator import PIXEL_MASKS
from .images import load_image
from .labels import scheme_labels
from .processing_ifaformer import IFAformerProcessor
from .rows import PICTURE_COLUMNS


TOKEN_FEATURES = {
    "input_ids": List(Value("int32")),
    "attention_mask": List(Value("int8")),
    "token_type_ids": List(Value("int8")),
    "crf_mask": List(Value("bool")),
}

ROWS_A_BATCH = 32  # of some 10 MB at most, with pictures and crops


@dataclass
class TokenMasking:
    """
    Replaces tokens by the mask token, drawn anew each time with torch's generator, so that a model leans on the
    context of a name as well.

    Args:
        probability: share of the tokens that are replaced.
        mask_token_id: what replaces them.
        kept_ids: tokens that never are.
    """

    probability: float
    mask_token_id: int
    kept_ids: frozenset[int]

    def __call__(self, input_ids: list[int]) -> list[int]:
        drawn = (torch.rand(len(input_ids)) < self.probability).tolist()
        return [
            self.mask_token_id if is_drawn and token not in self.kept_ids else token
            for token, is_drawn in zip(input_ids, drawn, strict=True)
        ]


@dataclass
class FeatureReader:
    """
    Stored features -> what the collator takes, as a transform of a data set.

    Args:
        shapes: (3, height, width) of each column of pixels.
        masking: for training.
    """

    shapes: dict[str, tuple[int, int, int]]
    masking: TokenMasking | None = None

    def __call__(self, rows: dict[str, list]) -> dict[str, list]:
        for name, shape in self.shapes.items():
            if name in rows:
                number = () if name == "pixel_values" else (-1,)
                rows[name] = [
                    None if pixels is None else np.frombuffer(pixels, dtype=np.uint8).reshape(*number, *shape)
                    for pixels in rows[name]
                ]
        if self.masking is not None:
            rows["input_ids"] = [self.masking(ids) for ids in rows["input_ids"]]
        return rows


def prepare_features(
    dataset: Dataset,
    processor: IFAformerProcessor,
    cache_dir: str | None = None,
    num_proc: int | None = None,
    mask_probability: float = 0.0,
) -> Dataset:
    """
    The features of each row, from the cache where the same rows were prepared with the same processor before.

    Pixels are uint8, for [`IFAformerProcessor.normalize_pixels`] to normalise batch by batch on the device.

    Args:
        dataset: rows as the builders have them.
        processor: of the model.
        cache_dir: the features go to `ifaformer_features/` below it; the default of `datasets` if None.
        num_proc: processes that prepare. One if None.
        mask_probability: for training, see `TokenMasking`; applied when a row is read.

    Raises:
        ValueError: for a row that cannot be used, with its id, or rows with other tags than the processor's.
        OSError: where the cache cannot be written.
    """
    if "ner_tags" in dataset.features:
        tags = dataset.features["ner_tags"].feature.names
        if tags != processor.tags:
            raise ValueError(
                f"The rows have the tags {', '.join(tags)}; the processor has {', '.join(processor.tags)}."
            )
    key = _features_key(dataset, processor)
    folder = os.path.join(cache_dir or str(datasets.config.HF_DATASETS_CACHE), "ifaformer_features", key)
    texts = dataset.select_columns([column for column in dataset.column_names if column not in PICTURE_COLUMNS])
    absent: dict[str, list] = {"image": [None], "aux_crops": [[]], "rcnn_crops": [[]]}
    no_pictures: dict[str, list] = {
        column: absent[column] for column in PICTURE_COLUMNS if column in dataset.column_names
    }
    example = processor.encode_rows({**texts[:1], **no_pictures})  # for the names alone
    answer = {"ner_tags": List(Value("int16")), "relation": Value("int16")}
    labels = [feature for column, feature in answer.items() if column in dataset.column_names]
    features = {name: feature for name, feature in TOKEN_FEATURES.items() if name in example}
    features |= {"labels": labels[0]} if labels else {}
    features |= {name: Value("large_binary") for name in PIXEL_MASKS if name in example}
    with cache_errors(folder), _one_writer(folder):
        prepared = dataset.map(
            _encode,
            fn_kwargs={"processor": processor},
            batched=True,
            batch_size=ROWS_A_BATCH,
            writer_batch_size=ROWS_A_BATCH,
            remove_columns=dataset.column_names,
            features=Features(features),
            num_proc=num_proc if num_proc and num_proc > 1 else None,
            cache_file_name=os.path.join(folder, "features.arrow"),
            new_fingerprint=key,
            desc="Preparing features",
        )
    masking = None
    if mask_probability > 0:
        tokenizer = processor.tokenizer
        masking = TokenMasking(mask_probability, tokenizer.mask_token_id, frozenset(tokenizer.all_special_ids))
    return prepared.with_transform(FeatureReader(processor.pixel_shapes, masking))


def _encode(rows: dict[str, list], processor: IFAformerProcessor) -> dict[str, list]:
    try:
        features = processor.encode_rows(rows)
    except (ValueError, TypeError):
        for row, row_id in enumerate(rows["id"]):
            try:
                processor.encode_rows({name: [values[row]] for name, values in rows.items()})
            except (ValueError, TypeError) as error:
                raise ValueError(
                    f"Row {row_id!r} cannot be prepared: {error} If it could be when the data set was loaded, load it "
                    "again: what is absent is counted then."
                ) from error
        raise
    for name in PIXEL_MASKS.keys() & features.keys():
        features[name] = [None if pixels is None else pixels.tobytes() for pixels in features[name]]
    return features


def _features_key(dataset: Dataset, processor: IFAformerProcessor) -> str:
    """Changes with the rows, with every setting of the processor and its parts, and with the code that computes."""
    tokenizer = processor.tokenizer
    if tokenizer.is_fast:
        # Calls leave their truncation and padding behind in the tokenizer.
        vocabulary = json.loads(tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
    else:
        vocabulary = tokenizer.get_vocab()
    parts: list[Any] = [load_image, scheme_labels, IFAformerProcessor]
    code = [__file__, *map(inspect.getfile, parts)]
    return Hasher.hash(
        [
            dataset._fingerprint,
            processor.to_dict(),
            type(processor.image_processor).__name__,
            processor.image_processor.to_dict(),
            type(tokenizer).__name__,
            json.dumps(vocabulary, sort_keys=True),
            sorted(map(str, tokenizer.init_kwargs.items())),
            [open(path, "rb").read() for path in sorted(set(code))],
            [module.__version__ for module in (transformers, tokenizers, PIL)],
        ]
    )


@contextmanager
def _one_writer(folder: str) -> Iterator[None]:
    """One process at a time writes the features; what one that was killed left behind goes."""
    lock = FileLock(folder + ".lock")
    try:
        os.makedirs(folder, exist_ok=True)
        lock.acquire()
    except OSError as error:
        if error.errno not in NO_WRITING:
            raise
        yield  # Nobody writes here: what is prepared can be read all the same.
        return
    try:
        for path in glob.glob(os.path.join(glob.escape(folder), "tmp*")):
            os.remove(path)
        yield
    finally:
        lock.release()
