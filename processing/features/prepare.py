"""
Features of a data set's rows, computed once: token ids and uint8 pixels in a memory-mapped file, which later epochs,
later runs and all worker processes read without decoding a picture again.
"""

import glob
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
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
from processing.context import CONTEXT
from processing.jobs.cache_errors import NO_WRITING, cache_errors
from processing.jobs.checksums import CHECKSUMS, damaged_files, write_checksums
from processing.jobs.digests import code_digest, tokenizer_digest
from processing.problems import Problem
from processing.processing_ifaformer import IFAformerProcessor
from processing.rows import is_list_column, label_names
from processing.tokenizing import encode_words, rows_words, split_words


logger = logging.getLogger(__name__)

TOKEN_FEATURES = {
    "input_ids": List(Value("int32")),
    "attention_mask": List(Value("int8")),
    "token_type_ids": List(Value("int8")),
    "byte_ids": List(List(Value("int16"))),
    "word_shape_ids": List(Value("int8")),
    "crf_mask": List(Value("bool")),
    "context_mask": List(Value("bool")),
    "num_cut_context": Value("int32"),
    "word_ids": List(Value("int32")),
}
LABEL_FEATURES = {"ner_tags": List(Value("int16")), "relation": Value("int16")}

# What is wrong with those of a row's pictures that are not among its pixels.
PROBLEMS = "picture_problems"
PROBLEM_FEATURES = List(
    {"kind": Value("string"), "column": Value("string"), "item": Value("int32"), "details": Value("string")}
)

NUM_NAMED = 5  # So many unusable pictures are named in a warning.

ROWS_A_BATCH = 32  # whose pixels take some 10 MB at most


def prepare_features(
    dataset: Dataset,
    processor: IFAformerProcessor,
    cache_dir: str | None = None,
    num_proc: int | None = None,
    labels: bool = True,
) -> Dataset:
    """
    The features of each row that the model can read, from the cache where the same rows were prepared with the same
    settings before. Texts and pictures are stored apart: another tokenizer decodes no picture. Their checksums are
    compared once a run, and what the disk has changed is prepared anew.

    A picture or crop that cannot be used counts as absent. A warning says how many there are and names the first;
    [`unusable_pictures`] gives them all. A row that the model cannot read is left out, and a warning says how many
    there are: of its text the tokenizer keeps nothing, or `max_length` leaves no room for both entities of a relation.
    Another one says how much of the contexts is not read.

    Args:
        dataset: rows as the builders have them. Of more pictures or crops than the processor takes, the first are
            used, and a warning says how many rows have more.
        processor: the model's processor.
        cache_dir: a folder in which `ifaformer_features/` gets the features; the cache of `datasets` if None.
        num_proc: how many processes prepare features; one if None.
        labels: whether the features have labels. False is for rows whose tags or relations are not the processor's.

    Returns:
        What the processor's collator takes: token ids, masks, labels, and pixels as uint8. The collator passes over
        more columns: `row`, the index of the row in `dataset`; `word_ids`, of each token the index of its word,
        -1 for special tokens (in a text for relations the entity markers are words too); where contexts are
        read, `num_cut_context`, how many tokens of a row's are not; and, where pictures are looked at,
        `picture_problems`, for [`unusable_pictures`].

    Raises:
        ValueError: for a row that cannot be used, with its id; for rows with other tags or relations than the
            processor's, or without entities where the processor has relations; for several pictures in a column of
            which none can be used.
        OSError: where the cache cannot be written.
    """
    _check_columns(dataset, processor, labels)
    reads_context = bool(getattr(processor, "max_context_length", None))
    if CONTEXT in dataset.features and not reads_context:
        logger.warning(
            f"{_place(dataset.split)}the column {CONTEXT} is not looked at, since the processor has no "
            "max_context_length."
        )
    folder = os.path.join(cache_dir or str(datasets.config.HF_DATASETS_CACHE), "ifaformer_features")
    text_columns = ["id", "text", "tokens", "offsets", "head", "tail", *(LABEL_FEATURES if labels else ())]
    text_columns += [CONTEXT] if reads_context else []
    texts = dataset.select_columns([column for column in text_columns if column in dataset.column_names])
    pictures = dataset.select_columns(["id", *(column for column in PICTURE_COLUMNS if column in dataset.features)])

    token_columns = {*processor.model_input_names, "word_ids"}
    token_columns |= {"context_mask", "num_cut_context"} if reads_context else set()
    text_features = {name: feature for name, feature in TOKEN_FEATURES.items() if name in token_columns}
    for column in LABEL_FEATURES.keys() & texts.features.keys():
        text_features["labels"] = LABEL_FEATURES[column]
    pixel_features: dict[str, Any] = {name: Value("large_binary") for name in processor.encode_pictures(pictures[:0])}
    if pixel_features:
        pixel_features[PROBLEMS] = PROBLEM_FEATURES
    if not len(dataset):  # for which `datasets` would leave out columns
        columns = Features({"row": Value("int64"), **text_features, **pixel_features})
        return Dataset.from_dict({name: [] for name in columns}, features=columns)
    _warn_of_surplus_pictures(dataset, processor)
    _warn_of_other_words(dataset, processor)
    code = [code_digest(), *(module.__version__ for module in (transformers, tokenizers, PIL, np))]
    code.append(version("torchvision") if find_spec("torchvision") else None)
    names = ["label_scheme", "tags", "relations", "max_length", "entity_markers", "max_word_bytes", "word_shapes"]
    names += ["max_context_length", "max_pair_length", "word_splitter"] if reads_context else []
    settings = [*code, tokenizer_digest(processor.tokenizer), *(getattr(processor, name) for name in names)]
    parts = [_cached(texts, text_features, _encode_texts, processor, settings, folder, num_proc)]
    if pixel_features:
        settings = [*code, *sorted(processor.pixel_settings.items())]
        parts.append(_cached(pictures, pixel_features, _encode_pictures, processor, settings, folder, num_proc))
    features = concatenate_datasets([Dataset.from_dict({"row": np.arange(len(dataset))}), *parts], axis=1)
    features = _readable(features, processor, dataset.split)
    if reads_context:
        _warn_of_cut_contexts(features, dataset.split)
    _tell_of_unusable_pictures(unusable_pictures(features, dataset), dataset, processor)
    shapes: dict[str, tuple[int, ...]] = {name: (-1, *shape) for name, shape in processor.pixel_shapes.items()}
    if getattr(processor, "max_images", 1) == 1:
        shapes["pixel_values"] = shapes["pixel_values"][1:]
    return features.with_transform(partial(_with_arrays, shapes))


def unusable_pictures(features: Dataset, dataset: Dataset) -> list[tuple[str, Problem]]:
    """
    Of each picture and crop that [`prepare_features`] could not use when it made these features of `dataset`, the id
    of the row and the problem, which names the column and, of crops, the number in the row's list.
    """
    if PROBLEMS not in features.column_names:
        return []
    found = np.flatnonzero(_lengths(features, PROBLEMS))
    rows = features.select_columns(["row", PROBLEMS]).select(found)[:]
    ids = dataset.select_columns(["id"]).select(rows["row"])["id"]
    return [
        (row_id, Problem(**problem))
        for row_id, problems in zip(ids, rows[PROBLEMS], strict=True)
        for problem in problems
    ]


def _check_columns(dataset: Dataset, processor: IFAformerProcessor, labels: bool) -> None:
    known = {"ner_tags": ("tags", processor.tags), "relation": ("relations", processor.relations or [])}
    for column, (what, names) in known.items():
        if labels and column in dataset.features:
            given = label_names(dataset, column)
            if given != names:
                raise ValueError(
                    f"The rows have the {what} {', '.join(given)}; the processor has {', '.join(names) or 'none'}."
                )
    if processor.relations is not None and not {"head", "tail"} <= dataset.features.keys():
        raise ValueError(
            "The processor has relations, so that its rows need the columns head and tail. These rows have "
            f"{', '.join(dataset.features)}."
        )


def _lengths(rows: Dataset, column: str) -> np.ndarray:
    """Of the list in each row of a column, 0 where there is none."""
    tables = rows.select_columns([column]).with_format("arrow").iter(batch_size=1000)
    return np.concatenate([pc.fill_null(pc.list_value_length(table.column(column)), 0).to_numpy() for table in tables])


def _place(split: str | None) -> str:
    return "" if split is None else f"{split}: "


def _readable(features: Dataset, processor: IFAformerProcessor, split: str | None) -> Dataset:
    """The rows that have tokens; a warning tells how many have none."""
    has_tokens = _lengths(features, "input_ids") > 0
    number = int((~has_tokens).sum())
    if not number:
        return features
    reason = "have no token" if processor.relations is None else "have no room for both entities"
    logger.warning(f"{_place(split)}{number} rows {reason} and are not given to the model.")
    return features.select(np.flatnonzero(has_tokens))


def _warn_of_cut_contexts(features: Dataset, split: str | None) -> None:
    columns = features.select_columns(["num_cut_context", "context_mask"]).with_format("arrow")
    num_cut = num_rows = num_left_out = 0
    for table in columns.iter(batch_size=1000):
        cut = table.column("num_cut_context").to_numpy()
        rows = np.flatnonzero(cut)
        num_cut, num_rows = num_cut + int(cut.sum()), num_rows + len(rows)
        num_left_out += sum(not any(mask) for mask in table.column("context_mask").take(rows).to_pylist())
    if num_rows:
        left_out = f", {num_left_out} of them without any of it" if num_left_out else ""
        logger.warning(
            f"{_place(split)}{num_rows} rows are read without the end of their context ({num_cut} tokens){left_out}: "
            "it is longer than max_context_length, or than the room that the text leaves."
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
    """The rows encoded, in a file that is named by all that decides what is in it."""
    key = Hasher.hash([rows._fingerprint, settings, sorted(features)])
    folder = os.path.join(folder, key)
    with cache_errors(folder), _one_writer(folder):
        is_prepared = _are_whole(folder)
        prepared = rows.map(
            encode,
            fn_kwargs={"processor": processor},
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
        if not is_prepared:
            write_checksums(Path(folder))
        return prepared


_known_whole: set[tuple] = set()  # of files with their sizes and times: one run compares their checksums once


def _are_whole(folder: str) -> bool:
    """Whether the folder has features that are what was written there. Others are removed."""
    paths = sorted(glob.glob(os.path.join(glob.escape(folder), "features*.arrow")))
    state = tuple((path, os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in paths)
    if paths and state not in _known_whole:
        damaged = damaged_files(Path(folder))
        if damaged:
            logger.warning(
                f"The prepared features in {folder} are damaged, since the content of {', '.join(damaged)} is not "
                "what was written there. They are prepared anew."
            )
        if damaged or not os.path.exists(os.path.join(folder, CHECKSUMS)):  # without: the writer was killed
            for path in paths:
                os.remove(path)
            return False
        _known_whole.add(state)
    return bool(paths)


def _encode_texts(rows: Mapping[str, list], processor: IFAformerProcessor) -> dict[str, list]:
    """Features of the texts of several rows, or a ValueError with the id of the first row that has none."""
    try:
        if processor.relations is None:
            encoded = encode_words(processor.tokenizer, rows_words(rows), processor.max_length)
        else:
            encoded = processor.tokenize_pairs(rows["tokens"], rows["head"], rows["tail"])
        if CONTEXT in rows:
            encoded = processor.with_contexts(encoded, rows[CONTEXT])
        features = processor.text_features(encoded, rows.get("ner_tags"))
    except (ValueError, TypeError) as error:
        if len(rows["id"]) == 1:
            raise ValueError(f"Row {rows['id'][0]!r} cannot be prepared: {error}") from error
        for row in range(len(rows["id"])):
            _encode_texts({name: values[row : row + 1] for name, values in rows.items()}, processor)
        raise
    features["word_ids"] = [[-1 if word is None else word for word in text.word_ids] for text in encoded]
    if "context_mask" in features:
        features["num_cut_context"] = [text.num_cut_context for text in encoded]
    return features | ({"labels": rows["relation"]} if "relation" in rows else {})


def _encode_pictures(rows: Mapping[str, list], processor: IFAformerProcessor) -> dict[str, list]:
    limits = processor.picture_limits
    used = {
        column: [given[: limits[column]] if isinstance(given, list) else given for given in rows[column]]
        for column in PICTURE_COLUMNS
        if column in rows
    }
    found: list[tuple[int, Problem]] = []
    features: dict[str, list] = {
        name: [None if pixels is None else pixels.tobytes() for pixels in values]
        for name, values in processor.encode_pictures({**rows, **used}, found).items()
    }
    features[PROBLEMS] = [[] for _ in rows["id"]]
    for row, problem in found:
        features[PROBLEMS][row].append(asdict(problem))
    return features


def _tell_of_unusable_pictures(
    unusable: list[tuple[str, Problem]], dataset: Dataset, processor: IFAformerProcessor
) -> None:
    """A warning of the pictures that cannot be used; a ValueError where a column has several and not one is usable."""
    if not unusable:
        return
    for column, number in Counter(problem.column for _, problem in unusable).items():
        if number > 1 and number == _num_pictures(dataset, str(column), processor):
            row_id, problem = next(found for found in unusable if found[1].column == column)
            raise ValueError(
                f"{_place(dataset.split)}none of the {number} pictures in the column {column} can be used. The first "
                f"is that of row {row_id!r}: {problem}. Look at the files: were they downloaded as a whole? To go on "
                "without them, leave the column out of the data."
            )
    kinds = Counter(problem.kind for _, problem in unusable)
    counts = ", ".join(f"{number} x {kind}" for kind, number in kinds.most_common())
    first = "".join(f"\n{row_id}: {problem}" for row_id, problem in unusable[:NUM_NAMED])
    logger.warning(
        f"{_place(dataset.split)}{len(unusable)} pictures of {len(dict(unusable))} rows cannot be used and count as "
        f"absent: {counts}. The first are:{first}"
    )


def _num_pictures(dataset: Dataset, column: str, processor: IFAformerProcessor) -> int:
    """How many pictures the rows have in a column, of which a row gives the model no more than it takes."""
    if is_list_column(dataset, column):
        return int(np.minimum(_lengths(dataset, column), processor.picture_limits[column]).sum())
    tables = dataset.select_columns([column]).with_format("arrow").iter(batch_size=1000)
    return len(dataset) - sum(table.column(column).null_count for table in tables)


def _warn_of_surplus_pictures(dataset: Dataset, processor: IFAformerProcessor) -> None:
    surplus = []
    for column, taken in processor.picture_limits.items():
        if (column != "image" or taken) and is_list_column(dataset, column):
            number = int((_lengths(dataset, column) > taken).sum())
            what = "pictures" if column == "image" else column
            surplus += [f"{number} rows have more than {taken} {what}"] if number else []
    if surplus:
        logger.warning(f"{_place(dataset.split)}{' and '.join(surplus)}; of these a row's first ones alone are used.")


def _warn_of_other_words(dataset: Dataset, processor: IFAformerProcessor) -> None:
    """The pipeline would give the model other words of a text than these rows do."""
    if not {"text", "offsets"} <= dataset.features.keys():
        return
    other = 0
    for batch in dataset.select_columns(["text", "tokens"]).iter(batch_size=1000):
        for text, words in zip(batch["text"], batch["tokens"], strict=True):
            other += text is not None and split_words(text, processor.word_splitter)[1] != words
    if other:
        logger.warning(
            f"{other} rows have other words than the processor makes of their texts: its word_splitter is "
            f"{processor.word_splitter!r}. Load the data with that word_splitter, or without the column text."
        )


def _with_arrays(shapes: Mapping[str, tuple[int, ...]], rows: dict[str, list]) -> dict[str, list]:
    """Rows with their pixels as arrays, which the collator takes; `shapes`: those of a row, by column."""
    for name in shapes.keys() & rows.keys():
        shape = shapes[name]
        rows[name] = [
            None if pixels is None else np.frombuffer(pixels, dtype=np.uint8).reshape(shape) for pixels in rows[name]
        ]
    return rows


@contextmanager
def _one_writer(folder: str) -> Iterator[None]:
    """One process at a time writes the features. It removes what a process that was killed has left behind."""
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
