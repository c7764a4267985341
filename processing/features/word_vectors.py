"""Word vectors in text format, as GloVe and word2vec write them."""

import logging
import os
import re
from collections.abc import Collection
from functools import lru_cache

import numpy as np


logger = logging.getLogger(__name__)

FORMAT = "Word vectors are read in the text format of GloVe and word2vec."


def read_word_vectors(path: str | os.PathLike, words: Collection[str]) -> dict[str, np.ndarray]:
    """
    The vectors of those of the words that a file has, as they are written or else in lower case.

    Args:
        path: a text file in UTF-8, in each line a word and the numbers of its vector with spaces between. A first line
            of two whole numbers, as word2vec writes it, is passed over.
        words: whose vectors are wanted.

    Returns:
        By word, float32 of one length. Lines that are no word and as many finite numbers as the first are passed over,
        and a warning says how many they are.

    Raises:
        ValueError: for a file that is no text in UTF-8, has no vector, or whose first line is no word with numbers.
        OSError: for a file that cannot be read.
    """
    stat = os.stat(path)
    try:
        return dict(_read(os.fspath(path), (stat.st_size, stat.st_mtime_ns), frozenset(words)))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no text in UTF-8. {FORMAT} Unpack a compressed file (.gz, .zip), save a binary one (.bin) as "
            "text, or convert a text in another encoding to UTF-8."
        ) from error


# Several seeds read the same file for the same words.
@lru_cache(maxsize=2)
def _read(path: str, state: tuple[int, int], words: frozenset[str]) -> dict[str, np.ndarray]:
    wanted = words | {word.lower() for word in words}
    found: dict[str, np.ndarray] = {}
    size, bad_lines = 0, []
    with open(path, encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            line = line.rstrip("\r\n ")
            if number == 1 and re.fullmatch(r"\d+ \d+", line):
                continue
            size = size or line.count(" ")
            word, *numbers = line.rsplit(" ", size)  # A word may have spaces.
            is_good = len(numbers) == size > 0
            if is_good and (number <= 2 or (word in wanted and word not in found)):
                vector = _vector(numbers)
                if vector is None:
                    is_good = False
                else:
                    found[word] = vector
            if not is_good:
                bad_lines.append(number)
            if bad_lines and number <= 2:
                raise ValueError(
                    f"{path}, line {number}: expected a word and the numbers of its vector with spaces between, got "
                    f"{line!r:.60}. {FORMAT}"
                )
    if not size:
        raise ValueError(f"{path} has no word vectors. {FORMAT}")
    if bad_lines:
        logger.warning(
            f"{path}: {len(bad_lines)} lines are no word with {size} finite numbers and are passed over. The first is "
            f"line {bad_lines[0]}."
        )
    spelled = {word: word if word in found else word.lower() for word in words}
    return {word: found[name] for word, name in spelled.items() if name in found}


def _vector(numbers: list[str]) -> np.ndarray | None:
    """As float32. None where one of them is no finite number."""
    try:
        with np.errstate(over="ignore"):
            vector = np.array(numbers, dtype=np.float32)
    except ValueError:
        return None
    return vector if np.isfinite(vector).all() else None
