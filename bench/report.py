"""The figures as tables, and in docs/performance.md between its marks: no figure of the page is typed by hand."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from bench.settings import FIGURES, PAGE
from bench.targets import targets
from bench.tables import compared, machine

Figures = dict[str, dict[str, Any]]


def tables(figures: Figures) -> str:
    """All that can be told from these figures."""
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in _sections(figures))


def write_page() -> None:
    """Renews the page from the JSON files beside it. A mark without its figures keeps what it has."""
    figures = {path.stem: json.loads(path.read_text()) for path in FIGURES.glob("*.json")}
    page = PAGE.read_text()
    for title, text in _sections(figures):
        mark = f"<!-- bench: {title} -->"
        pattern = re.compile(re.escape(mark) + r".*?<!-- bench: end -->", re.DOTALL)
        if not pattern.search(page):
            raise SystemExit(f"bench: {PAGE.name} has no place for {title}: {mark}")
        page = pattern.sub(lambda _, text=text, mark=mark: f"{mark}\n{text}\n<!-- bench: end -->", page)
    PAGE.write_text(page)


SECTIONS: dict[str, dict[str, Callable[[dict[str, Any]], str]]] = {
    "compare": {"machine": machine, "targets": targets, "compare": compared},
}


def _sections(figures: Figures) -> Iterator[tuple[str, str]]:
    for what, sections in SECTIONS.items():
        if what in figures:
            for title, render in sections.items():
                yield title, render(figures[what])
