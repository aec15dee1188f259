"""What growth showed, as a table and as drawings beside the page."""

from statistics import median
from typing import Any

from bench.plots import Bar, bars
from bench.settings import FIGURES
from bench.tables import MB, Summary, one_line, row, summaries

Figures = dict[str, Any]

DRAWINGS = {
    "table-size": "rows/s by the rows already in the table",
    "members": "rows/s by partitions and members",
    "event-size": "peak memory by the size of an event",
}


def grown(figures: Figures) -> str:
    """One line for each size of the work."""
    lines = [
        row(
            "", "records/s, min / **median** / max", "MB/s", "CPU s per million, program",
            "Postgres", "peak MB",
        ),
        row("---", *["---:"] * 5),
    ]  # fmt: skip
    for each in summaries(figures):
        if not each.good:
            lines.append(row(each.name, f"failed: {one_line(each.problems[0])}", *[""] * 4))
            continue
        rates = each.rates()
        lines.append(
            row(
                each.name,
                f"{rates[0]:,.0f} / **{each.rate():,.0f}** / {rates[-1]:,.0f}",
                f"{each.rate() * _event_bytes(each) / MB:.0f}",
                f"{each.of('program_cpu', True):.1f}",
                f"{each.of('postgres_cpu', True):.1f}",
                f"{each.of('peak_memory') / MB:,.0f}",
            )
        )
    runs = "1 run" if figures["repeats"] == 1 else f"{figures['repeats']} runs"
    note = (
        f"{figures['rows']:,} records a run, but for the large events;"
        f" {runs} each;"
        f" {figures['host']['sluicegate']}."
    )
    drawings = [f"![{text}](performance/{name}.svg)" for name, text in DRAWINGS.items()]
    return "\n".join([*lines, "", note, "", *drawings])


def draw(figures: Figures) -> None:
    """The drawings, where there is something to draw."""
    unit = "median, and the range of the runs"
    _draw(
        "table-size",
        "Rows/s, by the rows already in the table",
        unit,
        [
            Bar(_millions(_detail(each, "table_rows")), "", each.rates())
            for each in _with(figures, "table_rows")
        ],
    )
    _draw(
        "members",
        "Rows/s, by partitions and members of the group",
        unit,
        [
            Bar(
                _count(_detail(each, "partitions"), "partition"),
                _count(_detail(each, "members"), "member"),
                each.rates(),
            )
            for each in _with(figures, "members")
        ],
    )
    _draw(
        "event-size",
        "Peak memory, by the size of an event",
        f"MB; {unit}",
        [
            Bar(_kilobytes(each), "", [run["peak_memory"] / MB for run in each.good])
            for each in _with(figures, "event_bytes")
        ],
    )


def _draw(name: str, title: str, unit: str, drawn: list[Bar]) -> None:
    if drawn:
        (FIGURES / f"{name}.svg").write_text(bars(title, unit, drawn))


def _with(figures: Figures, detail: str) -> list[Summary]:
    found = [each for each in summaries(figures) if each.good]
    return [each for each in found if detail in each.good[0]["details"]]


def _kilobytes(each: Summary) -> str:
    return f"{_detail(each, 'event_bytes') / 1000:g} kB"


def _detail(each: Summary, name: str) -> float:
    return median(run["details"][name] for run in each.good)


def _event_bytes(each: Summary) -> float:
    return each.good[0]["details"].get("event_bytes", 78)


def _millions(rows: float) -> str:
    return "empty" if rows == 0 else f"{rows / 1e6:g} million"


def _count(number: float, what: str) -> str:
    return f"{number:g} {what}{'' if number == 1 else 's'}"
