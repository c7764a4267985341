"""The file of a table: what all rows have in common, and the rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from processing.scoring.results_table import METRICS


TEXTS = ("name", "source", "note")
ROW_KEYS = ("name", "options", "published", "source", "note", "needs", "before")
KEYS: Mapping[str, type] = {"title": str, "note": str, "common": dict, "rows": dict}
BEFORE = "{before}"  # in an option's value: the folder of what is trained before


@dataclass(frozen=True)
class TableRow:
    """
    A row of a table.

    Attributes:
        key: the name of its folder, and what `--rows` takes.
        name: what is printed.
        options: those of `train.py`, beside the common ones, which they override.
        published: F1, and maybe precision and recall, in percent; empty where nothing is published.
        source: where these are from, and who measured them.
        note: what else the reader should know.
        needs: what must be there, a sentence by path.
        before: options of a model that is trained first and not printed.
    """

    key: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    note: str = ""
    needs: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)

    @property
    def missing(self) -> list[str]:
        """What of its needs is not there."""
        return [sentence for path, sentence in self.needs.items() if not Path(path).exists()]


@dataclass(frozen=True)
class Table:
    """A table: its title, what stands below it, the options of `train.py` that all rows share, and the rows."""

    title: str
    note: str
    common: Mapping[str, Any]
    rows: Sequence[TableRow]

    def chosen(self, keys: Sequence[str] | None) -> list[TableRow]:
        """These rows, in the table's own order; all for None. An unknown one is a ValueError."""
        known = [row.key for row in self.rows]
        unknown = [key for key in keys or () if key not in known]
        if unknown:
            raise ValueError(f"The table has no row {', '.join(unknown)}. Its rows are {', '.join(known)}.")
        return [row for row in self.rows if keys is None or row.key in keys]


def read_table(path: str, shipped: Mapping[str, str] | None = None) -> Table:
    """
    The table of a YAML file with `title`, `note`, `common` and `rows`.

    With `base`, another table, only what differs from that one has to be said: it goes over the base's title, note,
    `common` and `rows`, option by option. What is published is not taken from the base, which is of other data or
    towers.

    Args:
        path: of the file.
        shipped: the tables that a base may name, their paths by name. Else a base is a file beside this one.

    Raises:
        OSError: for a file that is not there.
        ValueError: for one that is not of this form. The message names the file, and the row.
    """
    content = _content(path)
    base = None
    if "base" in content:
        named, known = str(content.pop("base")), shipped or {}
        base_path = known.get(named, str(Path(path).with_name(named)))
        if not Path(base_path).is_file():
            names = f"{', '.join(known)} or " if known else ""
            raise ValueError(f"{path}: base must be {names}a file beside this one, got {named}, which is not there.")
        content_of_base = _content(base_path)
        if "base" in content_of_base:
            raise ValueError(f"{path}: base must be a table that has no base itself, got {base_path}, which has one.")
        base = _table(content_of_base, base_path, None)
        content = {"title": base.title, "note": base.note, "common": {}, "rows": {}} | content
    table = _table(content, path, base)
    if not table.common.get("dataset"):
        raise ValueError(f"{path}: common must name the dataset on which all rows are trained and scored (dataset).")
    return table


def _content(path: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: Expected YAML in UTF-8: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: Expected the keys {', '.join(KEYS)}, and maybe base, got {shown_keys(content)}.")
    return content


def _table(content: Mapping[str, Any], path: str, base: Table | None) -> Table:
    if content.keys() != KEYS.keys():
        missing = ", ".join(KEYS.keys() - content.keys())
        without = f", without {missing}" if missing else ""
        raise ValueError(
            f"{path}: Expected the keys {', '.join(KEYS)}, and maybe base, got {shown_keys(content)}{without}."
        )
    for key, expected in KEYS.items():
        if not isinstance(content[key], expected):
            raise ValueError(f"{path}: {key} must be {_SAID[expected]}, got {type(content[key]).__name__}.")
    of_base = {row.key: replace(row, published={}, source="") for row in base.rows} if base else {}
    own = {}
    for key, values in content["rows"].items():
        where = f"{path}, row {key}"
        if base and key not in of_base:
            where += f" (the base has {', '.join(of_base)})"
        own[key] = _row(key, values, where, of_base.get(key))
    rows = [*(of_base | own).values()]
    if not rows:
        raise ValueError(f"{path}: A table needs at least one row.")
    common = {**base.common, **content["common"]} if base else content["common"]
    return Table(content["title"], content["note"], common, rows)


_SAID: Mapping[type, str] = {str: "a text", dict: "a mapping"}


def shown_keys(content: Any) -> str:
    return ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__


def _row(key: Any, values: Any, where: str, base: TableRow | None) -> TableRow:
    """The row of these values, over those of the base's row where there is one."""
    if not isinstance(key, str) or not key.replace("_", "").replace("-", "").isalnum():
        raise ValueError(f"{where}: The key of a row is the name of a folder: letters, digits, _ and -.")
    needed = set() if base else {"name", "options"}
    if not isinstance(values, dict) or not needed <= values.keys() <= set(ROW_KEYS):
        maybe = ", ".join(name for name in ROW_KEYS if name not in needed)
        allowed = f"name, options and maybe {maybe}" if needed else f"some of {maybe}"
        raise ValueError(f"{where}: Expected {allowed}, got {shown_keys(values)}.")
    for name, value in values.items():
        expected = str if name in TEXTS else dict
        if not isinstance(value, expected):
            raise ValueError(f"{where}: {name} must be {_SAID[expected]}, got {type(value).__name__}.")
    for need in (text for pair in values.get("needs", {}).items() for text in pair):
        if not isinstance(need, str):
            raise ValueError(f"{where}: needs must have a sentence for each path, got {need!r}.")
    published = values.get("published", {})
    # Of true, 1 % would be made; what is 1 and less is no percentage but a share.
    is_known = published.keys() <= set(METRICS) and all(
        isinstance(of, int | float) and 1 < of <= 100 for of in published.values()
    )
    if published and not (is_known and "f1" in published and values.get("source")):
        raise ValueError(
            f"{where}: published must have f1, and maybe precision and recall, in percent (above 1, at most 100), "
            f"beside a source; got {published}."
        )
    if base is None:
        return TableRow(key, **values)
    return replace(base, **{**values, "options": {**base.options, **values.get("options", {})}})
