"""Foreign names in Markdown, and tables of them."""

import re
from collections.abc import Mapping
from typing import Any

from processing.problems import visible


def plain(name: Any) -> str:
    """A name as Markdown that shows it as it is, on one line and in one cell, whatever is in it."""
    # An underscore within a word starts nothing.
    return re.sub(r"[\\`*\[\]<&|~$]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", visible(str(name)))


def code(name: Any) -> str:
    """A name as a span of code, which ends with more backticks than the name has in a row."""
    shown = visible(str(name))
    ticks = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    space = " " if "`" in shown else ""
    return f"{ticks}{space}{shown}{space}{ticks}"


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
        counts[plain(name)] = [of[counted].get(name, 0) for of in splits]
    counts["rows without picture"] = [of["without_image"] for of in splits]
    rows = [["", *map(plain, statistics)], ["---", *["---:"] * len(statistics)]]
    rows += [[name, *(f"{count:,}" for count in of)] for name, of in counts.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
