"""An HTML file that needs nothing else: no script, no other file; light or dark as the reader's screen is. Pure.

Cells of tables and titles are escaped here; `note` and `plain` make the rest of a body of texts.
"""

import html
from collections.abc import Iterable, Sequence
from typing import Final

_STYLE: Final = """
:root { color-scheme: light dark; --paper: #fff; --text: #22211f; --ink: #52514e; --grid: #e1e0d9; --shade: #f3e9d8;
  --blue: #2a78d6; --red: #d03b3a; --green: #15945f; --violet: #7a52bd; }
@media (prefers-color-scheme: dark) { :root { --paper: #191918; --text: #ecebe6; --ink: #b3b1a9; --grid: #3a3936;
  --shade: #3d3626; --blue: #6aa7f0; --red: #f0706f; --green: #3fce92; --violet: #b79aec; } }
body { font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; color: var(--text);
  background: var(--paper); max-width: 62rem; margin: 2.5rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
p.note { color: var(--ink); margin: 0 0 .8rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
th, td { padding: .28rem 1rem .28rem 0; text-align: right; white-space: nowrap; }
th { font-weight: 600; border-bottom: 2px solid var(--grid); } td { border-bottom: 1px solid var(--grid); }
th:first-child, td:first-child, .words td, .words th { text-align: left; }
.words td { white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
.words td:first-child { color: var(--ink); white-space: nowrap; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .8rem; }
.cards { margin: 1.4rem 0; padding: 0; }
.cards li { list-style: none; border: 1px solid var(--grid); border-radius: .5rem; padding: .6rem .9rem; }
.cards b { display: block; font-size: 1.35rem; font-weight: 600; } .cards span { color: var(--ink); font-size: .85rem; }
figure { margin: .6rem 0; } svg { width: 100%; height: auto; }
footer { color: var(--ink); margin: 3rem 0 1rem; font-size: .87rem; }
"""


def build_document(title: str, body: Iterable[str]) -> str:
    """title: plain text. body: HTML."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{plain(title)}</title>'
    content = "\n".join(part for part in (f"<h1>{plain(title)}</h1>", *body) if part)
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n<body>\n{content}\n</body></html>\n'


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, words: bool = False) -> str:
    """words: its cells are sentences and not numbers. Without headings there is no first line."""
    head = "".join(f"<th>{plain(heading)}</th>" for heading in headings)
    lines = "\n".join("<tr>" + "".join(f"<td>{plain(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    top, kind = f"<thead><tr>{head}</tr></thead>" if head else "", ' class="words"' if words else ""
    return f'<div class="wide"><table{kind}>{top}<tbody>\n{lines}\n</tbody></table></div>'


def cards(values: Iterable[tuple[str, str]]) -> str:
    """(a figure, what it is)"""
    items = "".join(f"<li><b>{plain(value)}</b><span>{plain(what)}</span></li>" for value, what in values)
    return f'<ul class="cards">{items}</ul>'


def heading(text: str) -> str:
    return f"<h2>{plain(text)}</h2>"


def note(text: str) -> str:
    return f'<p class="note">{plain(text)}</p>' if text else ""


def picture(svg: str, *, label: str) -> str:
    """svg: as it is."""
    return f'<figure role="img" aria-label="{plain(label)}">{svg}</figure>'


def plain(text: object) -> str:
    return html.escape(str(text))
