"""Findings as one HTML file that needs nothing else: facts, tables, plots as inline SVG, and no script.

Text is escaped here and nowhere else. Where there are no plots, the page says why. Pure.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tokenfleet_engine.profiling.tables import Table, facts, tables

PLOT_OF: Final = {"Prefill": "prefill", "Decode": "decode", "Memory of one sequence": "memory"}
"""Which plot stands above which table."""

_STYLE: Final = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; color: #222; background: #fff;
  max-width: 62rem; margin: 2.5rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 1rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .3rem; }
p.note { color: #666; margin: 0 0 .8rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
th, td { padding: .28rem .9rem .28rem 0; text-align: right; white-space: nowrap; }
th { font-weight: 600; border-bottom: 2px solid #999; } td { border-bottom: 1px solid #e6e6e6; }
th:first-child, td:first-child, .facts td, .facts th, .words td, .words th { text-align: left; }
.facts th { border: 0; color: #666; font-weight: 400; vertical-align: top; } .facts td { border: 0; white-space: normal; }
.words td { white-space: normal; }
svg { width: 100%; height: auto; margin: .4rem 0 .8rem; }
footer { color: #777; margin: 3rem 0 1rem; font-size: .87rem; }
"""


def build_page(findings: Mapping[str, Any], *, plots: Mapping[str, str], without_plots: str = "") -> str:
    """`plots` are SVG by name; `without_plots` says why there are none."""
    title = f"Profile of {_escape(findings['model']['name'])} on {_escape(findings['device']['name'])}"
    body = [f"<h1>{title}</h1>", _facts(facts(findings))]
    if without_plots:
        body.append(f'<p class="note">{_escape(without_plots)}</p>')
    for table in tables(findings):
        body.append(f"<h2>{_escape(table.title)}</h2>")
        if table.note:
            body.append(f'<p class="note">{_escape(table.note)}</p>')
        body.append(plots.get(PLOT_OF.get(table.title, ""), ""))
        body.append(build_table(table))
    body.append(
        "<footer>Tokenfleet profiler. Bands run from the 10th to the 90th percentile. All samples: profile.json.</footer>"
    )
    return build_document(title, body)


def build_document(title: str, body: Sequence[str]) -> str:
    """`title` and `body` are HTML already."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n<body>\n' + "\n".join(
        part for part in body if part
    ) + "\n</body></html>\n"  # fmt: skip


def build_table(table: Table) -> str:
    kind = "words" if table.title == "Left out" else ""
    head = "".join(f"<th>{_escape(heading)}</th>" for heading in table.headings)
    rows = ("".join(f"<td>{_escape(cell)}</td>" for cell in row) for row in table.rows)
    lines = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>\n{lines}\n</tbody></table></div>'


def _facts(pairs: Sequence[tuple[str, str]]) -> str:
    rows = "\n".join(f"<tr><th>{_escape(name)}</th><td>{_escape(value)}</td></tr>" for name, value in pairs)
    return f'<table class="facts"><tbody>\n{rows}\n</tbody></table>'


def _escape(text: object) -> str:
    return html.escape(str(text))
