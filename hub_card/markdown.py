"""Tables in Markdown."""

from collections.abc import Mapping
from typing import Any


def table_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def counts_table(statistics: Mapping[str, Mapping[str, Any]], counted: str) -> str:
    """
    Rows, entities by type or relations by name, and rows without picture, with a column for each split.

    Args:
        statistics: by split, as `split_statistics` counts them.
        counted: `entities` or `relations`.
    """
    splits = statistics.values()
    counts = {"rows": [of["rows"] for of in splits]}
    for name in sorted({name for of in splits for name in of[counted]}):
        counts[table_cell(name)] = [of[counted].get(name, 0) for of in splits]
    counts["rows without picture"] = [of["without_image"] for of in splits]
    rows = [["", *statistics], ["---", *["---:"] * len(statistics)]]
    rows += [[name, *(f"{count:,}" for count in of)] for name, of in counts.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
