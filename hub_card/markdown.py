"""Tables in Markdown."""

from collections.abc import Mapping
from typing import Any


def table_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def counts_table(statistics: Mapping[str, Mapping[str, Any]], counted: str) -> str:
    """
    Rows, entities by type or relations by name, and rows without picture, with a column for each split.

    Args:
        statistics: by split, as `split_statistics` counts them.
        counted: `entities` or `relations`.
    """
    splits = statistics.values()
    names = sorted({name for of in splits for name in of[counted]})
    counts = [
        ("rows", [of["rows"] for of in splits]),
        *((name, [of[counted].get(name, 0) for of in splits]) for name in names),
        ("rows without picture", [of["without_image"] for of in splits]),
    ]
    rows = [[table_cell(name), *(f"{count:,}" for count in of)] for name, of in counts]
    return markdown_table(["", *statistics], rows)
