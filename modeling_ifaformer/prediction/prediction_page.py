"""The page of a bulk prediction: what was found in its first rows. It can be passed on to others."""

from collections.abc import Sequence
from pathlib import PurePath

from processing.inspection.html_page import OUTSIDE, outside_note, page
from processing.rendering import tweet_html
from processing.tagged_text import TaggedRow

from .input_rows import InputRow


Article = tuple[str, bool]  # the HTML of a row, and whether its picture is left out for lying outside


def article(row: InputRow, result: TaggedRow) -> Article:
    """
    A row for the page. Problems are told by their kinds, without what stood in the row. A row that could not be tagged
    is named, and nothing of it is shown.
    """
    problems = [problem.published for problem in result.found_problems]
    if not result.is_tagged:
        name = PurePath(row.place).name  # without the folder of the file
        return tweet_html(None, [], problems=[f"{name}: {problem}" for problem in problems]), False
    is_outside = result.image is not None and row.shown is None
    shown = type(result)({**result, "problems": problems + [OUTSIDE] * is_outside})
    vars(shown).update({**vars(result), "image": row.shown})
    return shown._repr_html_(), is_outside


def results_page(title: str, articles: Sequence[Article], num_rows: int, is_explained: bool) -> bytes:
    """The page of these first ones of so many rows, in UTF-8."""
    note = (
        f"The first {len(articles)} of {num_rows} tweets." if len(articles) < num_rows else f"All {num_rows} tweets."
    )
    if is_explained:
        note += " The wider the line of a box, the more its crop speaks for the entity."
    note += outside_note(sum(is_outside for _, is_outside in articles))
    body = "".join(text for text, _ in articles)
    # Half of a surrogate pair is no text.
    return page(title, f'<p class="note">{note}</p>{body}').encode(errors="replace")
