"""Blocks of a page that tests compute anew: the fenced one behind `<!-- recomputed: NAME -->`.

`pytest --update-golden` writes what is computed into the page instead of comparing, as it does for golden files.
"""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent.parent.parent / "docs"


def compare(request: pytest.FixtureRequest, page: str, name: str, computed: str) -> None:
    """Fails where the page has another block of this name."""
    path = DOCS / page
    text = path.read_text()
    form = re.compile(rf"(<!-- recomputed: {re.escape(name)} -->\n+```\w*\n)(.*?)(```)", re.DOTALL)
    found = form.search(text)
    assert found is not None, f"docs/{page} has no block called {name}"
    if request.config.getoption("--update-golden"):
        path.write_text(form.sub(lambda match: match[1] + computed + match[3], text))
        return
    assert found[2] == computed, f"docs/{page} says otherwise; if this is wanted: pytest --update-golden"
