"""
Features of a data set's rows, computed once: token ids and uint8 pixels in a memory-mapped file, which later epochs,
later runs and all worker processes read without decoding a picture.
"""

import glob
import inspect
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL
import pyarrow.compute as pc
import tokenizers
import transformers
from datasets import Dataset, Features, List, Value, concatenate_datasets
from datasets.fingerprint import Hasher
from filelock import FileLock

from processing.columns import PICTURE_COLUMNS
from processing.decoding import first_positions
from processing.entity_markers import mark_entities
from processing.images import load_image
from processing.jobs.cache_errors import NO_WRITING, cache_errors
from processing.labels import scheme_labels
from processing.processing_ifaformer import IFAformerProcessor
from processing.rows.row_features import label_names
from processing.tokenizing import join_words, tokenize_words

from .row_errors import by_row


logger = logging.getLogger(__name__)

TOKEN_FEATURES = {
    "input_ids": List(Value("int32")),
    "attention_mask": List(Value("int8")),
    "token_type_ids": List(Value("int8")),
    "crf_mask": List(Value("bool")),
}

ROWS_A_BATCH = 32  # whose pixels take some 10 MB at most


@dataclass
class FeatureReader:
    """
    Stored features -> what the collator takes, as a transform of a data set.

    Args:
        shapes: (3, height, width) of each column of pixels.
    """

    shapes: dict[str, tuple[int, int, int]]

    def __call__(self, rows: dict[str, list]) -> dict[str, list]:
        for name, shape in self.shapes.items():
            if name in rows:
                number = () if name == "pixel_values" else (-1,)
                rows[name] = [
                    None if pixels is None else np.frombuffer(pixels, dtype=np.uint8).reshape(*number, *shape)
                    for pixels in rows[name]
                ]
        return rows


def prepare_features(
    dataset: Dataset,
    processor: IFAformerProcessor,
    cache_dir: str | None = None,
    num_proc: int | None = None,
    labels: bool = True,
) -> Dataset:
    """
    The features of each row, from the cache where the same rows were prepared with the same settings before. Texts and
    pictures are kept apart: another tokenizer decodes no picture.

    Pixels are uint8, for [`IFAformerProcessor.normalize_pixels`] to normalise batch by batch on the device.

    Args:
        dataset: rows as the builders have them. Of more crops than the processor takes, the first are used.
        processor: of the model.
        cache_dir: the features go to `ifaformer_features/` below it; the default of `datasets` if None.
        num_proc: processes that prepare. One if None.
        labels: False leaves them out, for rows whose tags or relations are not the processor's.

    Raises:
        ValueError: for a row that cannot be used, with its id, or rows with other tags or relations than the
            processor's.
        OSError: where the cache cannot be written.
    """
    if labels:
        _check_names(dataset, processor)
    _warn_of_surplus_crops(dataset, processor)
    folder = os.path.join(cache_dir or str(datasets.config.HF_DATASETS_CACHE), "ifaformer_features")
    answers = {"ner_tags": List(Value("int16")), "relation": Value("int16")}
    text_columns = ["id", "tokens", "head", "tail", *(answers if labels else ())]
    texts = dataset.select_columns([column for column in text_columns if column in dataset.column_names])
    pictures = dataset.select_columns(["id", *(column for column in PICTURE_COLUMNS if column in dataset.features)])

    text_features = {name: TOKEN_FEATURES[name] for name in TOKEN_FEATURES if name in processor.model_input_names}
    for column in answers.keys() & texts.features.keys():
        text_features["labels"] = answers[column]
    pixel_features = {name: Value("large_binary") for name in processor.encode_pictures(pictures[:0])}
    parts = [_cached(texts, text_features, _encode_texts, processor, _text_settings(processor), folder, num_proc)]
    if pixel_features:
        settings = sorted(processor.pixel_settings.items())
        parts.append(_cached(pictures, pixel_features, _encode_pictures, processor, settings, folder, num_proc))
    return concatenate_datasets(parts, axis=1).with_transform(FeatureReader(processor.pixel_shapes))


def _check_names(dataset: Dataset, processor: IFAformerProcessor) -> None:
    for column, what, names in (
        ("ner_tags", "tags", processor.tags),
        ("relation", "relations", processor.relations or []),
    ):
        if column in dataset.features:
            given = label_names(dataset, column)
            if given != names:
                raise ValueError(
                    f"The rows have the {what} {', '.join(given)}; the processor has {', '.join(names) or 'none'}."
                )


def _cached(
    rows: Dataset,
    features: dict[str, Any],
    encode: Callable[..., dict[str, list]],
    processor: IFAformerProcessor,
    settings: list,
    folder: str,
    num_proc: int | None,
) -> Dataset:
    """The rows encoded, in a file of their own for each key."""
    key = Hasher.hash([rows._fingerprint, settings, sorted(features), _code(), _versions()])
    folder = os.path.join(folder, key)
    with cache_errors(folder), _one_writer(folder):
        return rows.map(
            by_row,
            fn_kwargs={"encode": encode, "processor": processor},
            batched=True,
            batch_size=ROWS_A_BATCH,
            writer_batch_size=ROWS_A_BATCH,
            remove_columns=rows.column_names,
            features=Features(features),
            num_proc=num_proc if num_proc and num_proc > 1 else None,
            cache_file_name=os.path.join(folder, "features.arrow"),
            new_fingerprint=key,
            desc="Preparing texts" if encode is _encode_texts else "Preparing pictures",
        )


def _encode_texts(rows: Mapping[str, list], processor: IFAformerProcessor) -> dict[str, list]:
    return processor.encode_texts(rows)


def _encode_pictures(rows: Mapping[str, list], processor: IFAformerProcessor) -> dict[str, list]:
    return {
        name: [None if pixels is None else pixels.tobytes() for pixels in values]
        for name, values in processor.encode_pictures(rows).items()
    }


def _warn_of_surplus_crops(dataset: Dataset, processor: IFAformerProcessor) -> None:
    for column, number in (("aux_crops", processor.num_aux_crops), ("rcnn_crops", processor.num_rcnn_crops)):
        if column in dataset.features:
            tables = dataset.select_columns([column]).with_format("arrow").iter(batch_size=1000)
            lengths = (pc.list_value_length(table.column(column)) for table in tables)
            surplus = sum(pc.sum(pc.greater(length, number)).as_py() or 0 for length in lengths)
            if surplus:
                logger.warning(f"{surplus} rows have more than {number} {column}: the first {number} are used.")


def _text_settings(processor: IFAformerProcessor) -> list:
    tokenizer = processor.tokenizer
    if tokenizer.is_fast:
        # Calls leave their truncation and padding behind in the tokenizer.
        content: Any = json.loads(tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
        vocabulary = json.dumps(content, sort_keys=True)
    else:
        # Its files and options; not where it was loaded from.
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(path).read_bytes() for path in tokenizer.save_vocabulary(folder)]
        options = {name: value for name, value in tokenizer.init_kwargs.items() if isinstance(value, bool | int)}
        vocabulary = Hasher.hash([files, sorted(options.items()), sorted(tokenizer.get_added_vocab().items())])
    names = ("label_scheme", "tags", "relations", "max_length", "entity_markers")
    return [type(tokenizer).__name__, vocabulary, *(getattr(processor, name) for name in names)]


def _code() -> list[bytes]:
    """The code that computes features."""
    parts: list[Any] = [
        load_image,
        first_positions,
        mark_entities,
        scheme_labels,
        tokenize_words,
        join_words,
        IFAformerProcessor,
    ]
    return [Path(path).read_bytes() for path in [__file__, *map(inspect.getfile, parts)]]


def _versions() -> list[str | None]:
    versions = [module.__version__ for module in (transformers, tokenizers, PIL, np)]
    return [*versions, version("torchvision") if find_spec("torchvision") else None]


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
