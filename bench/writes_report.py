"""Which way to write a batch, as a table."""

from statistics import median
from typing import Any

from bench.tables import Summary, notes, one_line, row, summaries
from bench.writes import BASE, POINTS, STAGING, WAYS, Point, contender


def written(figures: dict[str, Any]) -> str:
    """One line a point: rows a second by each way, and Postgres' CPU time a row."""
    found = {each.name: each for each in summaries(figures)}
    lines = [
        row(
            "",
            *(f"{way}, rows/s" + (" (of staging)" if way != STAGING else "") for way in WAYS),
            *(f"CPU us a row, {way}" for way in WAYS),
        ),
        row("---", *["---:"] * 2 * len(WAYS)),
    ]
    for point in POINTS:
        each = [found.get(contender(point, way)) for way in WAYS]
        if any(each):
            cells = [_rate(one, each[0]) for one in each] + [_cpu(one) for one in each]
            lines.append(row(_title(point), *cells))
    return "\n".join([*lines, "", *notes(list(found.values()), figures)])


def _title(point: Point) -> str:
    if point != BASE:
        return point.name
    return (
        f"**base: {point.batch_rows:,} rows a batch, sorted, {point.connections} connections,"
        f" {point.duplicates * 100:g} % duplicates**"
    )


def _rate(one: Summary | None, staging: Summary | None) -> str:
    if one is None or not one.good:
        return "" if one is None else f"failed: {one_line(one.problems[0])}"
    text = f"{one.rate():,.0f}"
    if staging is not None and one is not staging and staging.good:
        text += f" ({one.rate() / staging.rate():.2f})"
    wrong, batches = (
        median(run["details"][name] for run in one.good) for name in ("wrong", "batches")
    )
    return text + (f", wrong in {wrong:.0f} of {batches:.0f}" if wrong else "")


def _cpu(one: Summary | None) -> str:
    return f"{one.of('postgres_cpu', True):.1f}" if one and one.good else ""
