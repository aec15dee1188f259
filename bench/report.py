"""The figures as tables, and in docs/performance.md between its marks: none is typed by hand."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from bench.growth_report import draw, grown
from bench.settings import FIGURES, PAGE
from bench.tables import compared, machine
from bench.targets import targets
from bench.writes_report import written

Figures = dict[str, dict[str, Any]]

END = "<!-- bench: end -->"


def tables(figures: Figures) -> str:
    """All that can be told from these figures."""
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in _sections(figures))


def write_page() -> None:
    """Renews the page from the JSON files beside it. A mark without its figures keeps what it has."""
    figures = {path.stem: json.loads(path.read_text()) for path in FIGURES.glob("*.json")}
    page = PAGE.read_text()
    for title, text in _sections(figures):
        mark = f"<!-- bench: {title} -->"
        before, found, rest = page.partition(mark)
        _, end, after = rest.partition(END)
        if not (found and end):
            raise SystemExit(f"bench: {PAGE.name} has no place for {title}: {mark} ... {END}")
        page = f"{before}{mark}\n{text}\n{END}{after}"
    PAGE.write_text(page)
    if "growth" in figures:
        draw(figures["growth"])


SECTIONS: dict[str, dict[str, Callable[[dict[str, Any]], str]]] = {
    "compare": {"machine": machine, "targets": targets, "compare": compared},
    "sink-tasks": {"sink-tasks": compared},
    "batch-rows": {"batch-rows": compared},
    "growth": {"growth": grown},
    "writes": {"writes": written},
}


def _sections(figures: Figures) -> Iterator[tuple[str, str]]:
    for what, sections in SECTIONS.items():
        if what in figures:
            for title, render in sections.items():
                yield title, render(figures[what])
