"""Values in text, as JSON, Python or numpy write them. Whatever a text holds, it is a value or a ValueError."""

import ast
import json
import re
from typing import Any

from processing.problems import distinct_keys


MAX_LITERAL = 1 << 20  # characters; Python takes up to 500 bytes of memory for each

# Of Python's notation: strings, names and numbers; else a single character. White space is passed over. A string that
# is not closed goes to the end, so that no quote in it is looked at again.
_STRING = r"b?{0}(?:[^{0}\\]|\\.?)*+(?:{0}|\Z)"
_TOKEN = re.compile(rf"""(?P<item>{_STRING.format("'")}|{_STRING.format('"')}|[^\s,:=\[\](){{}}'"]+)|\S""", re.DOTALL)


def parse_json(text: str) -> Any:
    """
    Raises:
        ValueError: for what is no JSON, for a dict that has a key twice, and for a number or nested lists that are too
            long for Python.
    """
    try:
        return json.loads(text, object_pairs_hook=distinct_keys, parse_int=_whole_number)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg.removesuffix(' at')} at character {error.pos + 1}") from error
    except RecursionError as error:
        raise ValueError("it has too many lists or dicts inside each other") from error


def _whole_number(digits: str) -> int:
    try:
        return int(digits)
    except ValueError as error:  # Python's own message tells how to lift its limit.
        raise ValueError(f"it has a whole number of {len(digits):,} digits, which is too long") from error


def parse_python(text: str, prepare: ast.NodeTransformer | None = None) -> Any:
    """
    A literal of Python. No code is run. `prepare` changes its tree before it is read.

    Raises:
        ValueError: for what is none, and for one of more than `MAX_LITERAL` characters.
    """
    if len(text) > MAX_LITERAL:
        raise ValueError(f"it has more than {MAX_LITERAL:,} characters")
    try:
        tree = ast.parse(text, mode="eval")
        return ast.literal_eval(tree if prepare is None else prepare.visit(tree))
    except (ValueError, SyntaxError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError("it is no plain value of Python") from error


def parse_value(text: str) -> Any:
    """
    A value as JSON, Python or numpy write it: `["a", "b"]`, `[('a', 1)]`, `['a' 'b']`, `array(['a'], dtype=object)`.
    Tuples become lists. No code is run.

    Raises:
        ValueError: for what is none of these, and for a list that numpy has cut short.
    """
    text = text.strip()
    try:
        return parse_json(text)
    except ValueError as error:
        as_json = error
    with_commas = _with_commas(text)
    try:
        return parse_python(with_commas, _PlainValues())
    except ValueError as error:
        raise as_json from error


def _with_commas(text: str) -> str:
    """
    Python's notation with commas in lists that have none, as numpy writes them. Python would read several strings as
    one; where they stand elsewhere, and in a list that has both, they are refused.
    """
    parts: list[str] = []
    levels: list[tuple[str, set[str]]] = [("", set())]  # each open bracket, and what stands between its items
    item_end = -1  # where an item has just ended
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token == "...":
            raise ValueError("the list was cut short where ... stands; write all of it, as JSON for example")
        is_item = match.lastgroup == "item"
        if item_end >= 0 and (is_item or token in "[{"):
            levels[-1][1].add(" " if match.start() > item_end else "")
            parts.append(",")
        if token in "[({":
            levels.append((token, set()))
        elif token == ",":
            levels[-1][1].add(",")
        elif token in "])}" and len(levels) > 1:
            bracket, between = levels.pop()
            if between > {","} or "" in between or (" " in between and bracket != "["):
                raise ValueError("two of its items have nothing between them")
        item_end = match.end() if is_item or token in "])}" else -1
        parts.append(token)
    if levels[0][1]:
        raise ValueError("it is more than one value")
    return " ".join(parts)


class _PlainValues(ast.NodeTransformer):
    """Tuples become lists, and numpy's arrays and numbers what is in them."""

    NUMPY = re.compile(r"((np|numpy)\.)?(array|str_|bool_?|u?int\d*|float\d*)")

    def visit_Tuple(self, node: ast.Tuple) -> ast.AST:
        return ast.List(self.generic_visit(node).elts, ast.Load())  # type: ignore[attr-defined]

    def visit_Call(self, node: ast.Call) -> ast.AST:
        is_numpy = self.NUMPY.fullmatch(ast.unparse(node.func)) and len(node.args) == 1
        if not is_numpy or any(keyword.arg != "dtype" for keyword in node.keywords):
            return node  # which is no plain value
        return self.visit(node.args[0])
