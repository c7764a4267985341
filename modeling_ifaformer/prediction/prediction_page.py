"""The page of a bulk prediction: what was found in its first rows. It can be passed on to others."""

from collections.abc import Sequence
from copy import copy
from pathlib import PurePath

from processing.inspection.html_page import OUTSIDE, page
from processing.rendering import tweet_html
from processing.tagged_text import TaggedRow

from .input_rows import InputRow


def article(row: InputRow, result: TaggedRow) -> str:
    """
    A row for the page, as HTML. Problems are told by their kinds, without what stood in the row. A row that could not
    be tagged is named, and nothing of it is shown.
    """
    problems = [problem.published for problem in result.found_problems]
    if not result.is_tagged:
        name = PurePath(row.place).name  # without the folder of the file
        return tweet_html(None, [], problems=[f"{name}: {problem}" for problem in problems])
    shown = copy(result)
    is_read = result.image is not None and all(problem.column != "image" for problem in result.found_problems)
    shown["problems"] = problems + [OUTSIDE] * (is_read and row.shown is None)
    shown.image = row.shown
    return shown._repr_html_()


def results_page(title: str, articles: Sequence[str], num_rows: int, is_explained: bool) -> bytes:
    """The page of these first ones of so many rows, in UTF-8."""
    note = (
        f"The first {len(articles)} of {num_rows} tweets." if len(articles) < num_rows else f"All {num_rows} tweets."
    )
    if is_explained:
        note += " The wider the line of a box, the more its crop speaks for the entity."
    # Half of a surrogate pair is no text.
    return page(title, f'<p class="note">{note}</p>{"".join(articles)}').encode(errors="replace")
