"""Whole pages of HTML, and tables on them. What stands on a page about a tweet is of `processing.rendering`."""

from collections.abc import Sequence
from typing import Any

from processing.rendering import CROP_COLOURS, escaped
from processing.rendering import STYLE as TWEET_STYLE


STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --ground: #fff; --line: #d0d7de; --note: #57606a; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --ground: #0d1117; --line: #3d444d; --note: #9da7b3; }
}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 84rem; margin: 0 auto; padding: 1rem; color: var(--text);
  background: var(--ground); overflow-wrap: anywhere; }
mark { border-radius: .3em; padding: .1em .25em; color: #1b1f24; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { text-align: right; padding: .2rem .7rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.tweets { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); gap: 0 2rem; }
article { border-top: 1px solid var(--line); padding: 1rem 0; }
figure { margin: 0; }
figure svg { width: 100%; height: auto; border-radius: .3rem; }
figcaption, .note { color: var(--note); font-size: .85rem; }
.key { border-bottom: .2em solid; }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 0 1.2rem; }
.figures { grid-template-columns: repeat(auto-fit, minmax(6rem, 1fr)); }
.figures b { display: block; font-size: 2.4rem; line-height: 1.1; }
"""


CROP_KIND_NAMES = {"aux": "phrase grounding (aux)", "rcnn": "a detector of a closed set (rcnn)"}
FRAMES = "The colour of a frame or a number tells what found the crop: {aux}, or {rcnn}.".format(
    **{
        kind: f'<span class="key" style="border-color:{CROP_COLOURS[kind]}">{name}</span>'
        for kind, name in CROP_KIND_NAMES.items()
    }
)
OUTSIDE = "A picture lies outside of the folder of the data and is not embedded."


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """An HTML table; every cell is escaped."""
    # A corner that says nothing heads nothing.
    head = "".join(f"<th>{escaped(str(cell))}</th>" if cell else "<td></td>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{escaped(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    # It scrolls on a narrow window, and those without a mouse have to reach it for that.
    return f'<table tabindex="0"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def page(title: str, body: str) -> str:
    """A whole HTML page around `body`, which is HTML already."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escaped(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}{TWEET_STYLE}</style>'
        f"</head><body><main><h1>{escaped(title)}</h1>{body}</main></body></html>\n"
    )
