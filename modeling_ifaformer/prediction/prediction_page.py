"""The page of a bulk prediction: what was found in its first rows. It can be passed on to others."""

from collections.abc import Sequence
from copy import copy
from datetime import date
from pathlib import PurePath

from processing.inspection.html_page import FRAMES, OUTSIDE, page
from processing.rendering import escaped, marked_type, tweet_html
from processing.tagged_text import TaggedRow

from .input_rows import InputRow
from .prediction_report import PredictionReport


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
    given = result.pictures
    shown.pictures = {
        column: [None if picture is None else row.shown(picture) for picture in of_column]
        for column, of_column in given.items()
    }
    is_outside = any(
        before is not None and after is None
        for column, of_column in given.items()
        for before, after in zip(of_column, shown.pictures[column], strict=True)
    )
    shown["problems"] = problems + [OUTSIDE] * is_outside
    return shown.article()


def results_page(
    title: str, model: str, articles: Sequence[str], report: PredictionReport, is_explained: bool
) -> bytes:
    """
    The page of these first ones of the rows that the report counts, in UTF-8.

    Args:
        title, model: of the page, and the name of the model.
        is_explained: whether the entities have shares.
    """
    num_shown, num_rows = len(articles), report.rows
    facts = [f"The first {num_shown} of {num_rows} tweets." if num_shown < num_rows else f"All {num_rows} tweets."]
    facts[0] += f" Tagged by {escaped(model)} on {date.today().isoformat()}."
    if "entities" in report.found:
        of_types = ", ".join(f"{count} {marked_type(name)}" for name, count in report.entities.most_common())
        facts.append(f"Entities: {of_types or 'none'}. Tweets without an entity: {report.without_entities}.")
    if "relations" in report.found:
        of_relations = ", ".join(f"{count} {escaped(name)}" for name, count in report.relations.most_common())
        facts.append(f"Relations: {of_relations or 'none'}.")
    if report.skipped:
        facts.append(f"Rows that could not be tagged: {report.skipped.total()}.")
    if any('class="badge"' in shown for shown in articles):
        facts.append(FRAMES)
    if is_explained:
        facts.append(
            "Choose a name by a click, or with the arrow keys, to see what the model looked at for it: the wider a "
            "frame, the more this part of the picture speaks for the name."
        )
    told = "".join(f"<p>{fact}</p>" for fact in facts)
    # Half of a surrogate pair is no text.
    body = f'{told}<div class="tweets">{"".join(articles)}</div>'
    return page(title, body).encode(errors="replace")
