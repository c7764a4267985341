"""
Rows of CoNLL files: a word and its tag on each line, and a blank line between tweets.

Sources: the CoNLL-2003 shared task (Tjong Kim Sang and De Meulder, 2003), https://aclanthology.org/W03-0419; WNUT-17,
https://noisy-text.github.io/2017/emerging-rare-entities.html; MultiCoNER, https://multiconer.github.io/dataset; the
comments of CoNLL-U, https://universaldependencies.org/format.html.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterator

from processing.problems import Problem
from processing.rows.picture_files import PICTURE_ENDINGS

from .text_tables import Row, text_lines, without_line_end


LINES_LOOKED_AT = 50  # So many lines with words tell whether a file is CoNLL.

# `IMGID:` stands in front of each tweet of Twitter-2015 and Twitter-2017, `# id` in MultiCoNER, the others in CoNLL-U.
_HEADER = re.compile(
    r"IMGID:\s*(?P<image_id>\S+)|#\s*(?:sent_)?id\s*=\s*(?P<sent_id>.*)|# id (?P<id>[^\t]+)(?:\t.*)?"
    r"|#\s*(?:[\w.:-]+|newdoc id|newpar id)\s*=.*|# (?:newdoc|newpar)"
)
_TAG = re.compile(r"O|[BIESLUMW]-\S.*")
_NUMBER = re.compile(r"\d+(?:[-.]\d+)?")

_EXPECTED = "each line must have a word and its tag, as many columns as most lines, with tabs or spaces between"
_NUMBERED = "the first column must be the word, and it numbers the words: keep only the columns of words and tags"
_NO_WORDS = "there must be words between this line and the next blank line"


def conll_rows(path: str) -> Iterator[tuple[int, Row | Problem]]:
    """
    A row `{"tokens", "ner_tags"}` for each tweet, and the line of its first word.

    - The first column is the word, the last one its tag; those between are not used. All lines have as many columns as
      most of the first 50, with tabs between, or with spaces if most have no tab. A file of one column has no tags.
    - A line that is empty, or holds only tabs and spaces, ends a tweet, and so does one that begins with `-DOCSTART-`.
    - In front of the first word of a tweet, `IMGID:17` says that `image_id` is `17` and `image` is `17.jpg`. A comment
      there, `# id = 7`, `# sent_id = 7` or `# id 7`, says the `id`; other comments `# key = value` are not used. A
      line with all columns and a tag in the last one is a word, whatever it looks like.
    - Where the first column numbers the words, which is where its first 50 are numbers, each tweet is a problem.

    A line of another form is a problem, which costs its tweet.
    """
    lines, has_tabs, width = _layout(path)
    first = [_columns(text, has_tabs) for text in lines]
    has_words_behind = width > 2 or (width == 2 and not all(_is_tagged(columns, width) for columns in first))
    is_numbered = len(first) > 1 and has_words_behind and all(_NUMBER.fullmatch(columns[0]) for columns in first)
    row: Row = {}
    words: list[list[str]] = []
    start, is_broken = 0, False
    for number, text in itertools.chain(text_lines(path), [(0, "")]):  # The blank line ends the last tweet.
        if _ends_tweet(text):
            if not is_broken and (words or "image_id" in row):
                if is_numbered and words:
                    yield start, Problem(_NUMBERED, details=f"(got {words[0]!r:.80})")
                else:
                    yield start, _row(row, words) if words else Problem(_NO_WORDS)
            row, words, is_broken = {}, [], False
            continue
        problem = text if isinstance(text, Problem) else None
        if isinstance(text, str):
            columns = _columns(text, has_tabs)
            if not words:
                start = number
                if not _is_word(text, columns, width) and (header := _header(text)) is not None:
                    row |= header
                    continue
            words.append(columns)
            if len(columns) != width or not columns[0] or not columns[-1]:
                details = f"(expected {width} columns, got {len(columns)}: {without_line_end(text)!r:.80})"
                problem = Problem(_EXPECTED, details=details)
        if problem is not None and not is_broken:
            is_broken = True
            yield number, problem


def num_columns(path: str) -> int:
    """How many columns the lines of a CoNLL file have, the word and its tag among them."""
    _, _, width = _layout(path)
    return width


def is_conll(path: str) -> bool:
    """
    Whether a file of text is CoNLL, by its first 50 lines with words: most of them have the same number of columns,
    two at least, and a last one that is a tag, `O` or such as `B-PER`. Where spaces are between, there are two such
    lines at least. Other files are texts, one on each line.
    """
    lines, has_tabs, width = _layout(path)
    columns = [_columns(text, has_tabs) for text in lines]
    tagged = sum(_is_tagged(of, width) for of in columns)
    return 2 * tagged > len(lines) and (has_tabs or tagged > 1)


def _layout(path: str) -> tuple[list[str], bool, int]:
    """The first lines with words, whether most of them have tabs, and the number of columns that most of them have."""
    given = (
        text
        for _, text in text_lines(path)
        if isinstance(text, str) and not _ends_tweet(text) and _header(text) is None
    )
    lines = list(itertools.islice(given, LINES_LOOKED_AT))
    has_tabs = 2 * sum("\t" in text for text in lines) > len(lines)
    widths = Counter(len(_columns(text, has_tabs)) for text in lines)
    return lines, has_tabs, widths.most_common(1)[0][0] if widths else 0


def _is_tagged(columns: list[str], width: int) -> bool:
    """Whether a line has all columns, and a tag in the last one."""
    return len(columns) == width > 1 and columns[0] != "" and bool(_TAG.fullmatch(columns[-1]))


def _is_word(text: str, columns: list[str], width: int) -> bool:
    """Whether a line that looks as one in front of the words holds a word: all columns, or a hashtag beside others."""
    is_hashtag = text.startswith("#") and not text.startswith("# ") and not len(columns) == 1 < width
    return is_hashtag or _is_tagged(columns, width)


def _ends_tweet(text: str | Problem) -> bool:
    return isinstance(text, str) and (not text.strip(" \t\r\n") or text.startswith("-DOCSTART-"))


def _header(text: str) -> Row | None:
    """What a line in front of the words says of the tweet. None stands for a line that is no such line."""
    header = _HEADER.fullmatch(without_line_end(text).strip(" "))
    if header is None:
        return None
    if image_id := header["image_id"]:
        has_ending = image_id.lower().endswith(PICTURE_ENDINGS)
        return {"image_id": image_id, "image": image_id if has_ending else f"{image_id}.jpg"}
    row_id = (header["id"] or header["sent_id"] or "").strip()
    return {"id": row_id} if row_id else {}


def _columns(text: str, has_tabs: bool) -> list[str]:
    line = without_line_end(text)
    # Other white space, such as U+00A0, may be part of a word.
    return [part.strip(" ") for part in line.split("\t")] if has_tabs else re.split(" +", line.strip(" "))


def _row(header: Row, lines: list[list[str]]) -> Row:
    tokens = [columns[0] for columns in lines]
    tags = {"ner_tags": [columns[-1] for columns in lines]} if len(lines[0]) > 1 else {}
    return {**header, "tokens": tokens, **tags}
