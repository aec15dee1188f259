"""The table of one invocation, in Markdown."""

from statistics import median
from typing import Any

Figures = dict[str, Any]

MB = 1_000_000


class Summary:
    """All runs of one contender."""

    def __init__(self, runs: list[Figures]) -> None:
        self.name: str = runs[0]["contender"]
        self.kind: str = runs[0]["kind"]
        self.good = [run for run in runs if run["problem"] is None and run["active_seconds"] > 0]
        self.problems = [run["problem"] for run in runs if run["problem"] is not None]

    def rates(self) -> list[float]:
        """Records a second of each run, the slowest first."""
        return sorted(run["records"] / run["active_seconds"] for run in self.good)

    def rate(self) -> float:
        """The median; 0 where no run was good."""
        return median(self.rates()) if self.good else 0.0

    def of(self, name: str, per_million: bool = False) -> float:
        """The median of a figure."""
        return median(
            run[name] * (1e6 / run["records"] if per_million else 1.0) for run in self.good
        )

    def whole_rate(self) -> float:
        """The median with the start of the program."""
        return median(run["records"] / run["whole_seconds"] for run in self.good)


def summaries(figures: Figures) -> list[Summary]:
    """One a contender, in the order of their first run."""
    by_name: dict[str, list[Figures]] = {}
    for run in figures["results"]:
        by_name.setdefault(run["contender"], []).append(run)
    return [Summary(runs) for runs in by_name.values()]


def best(found: list[Summary], prefix: str) -> Summary | None:
    """The fastest of those whose names begin so."""
    return max(
        (each for each in found if each.name.startswith(prefix) and each.good),
        key=Summary.rate,
        default=None,
    )


def best_idempotent(found: list[Summary]) -> Summary | None:
    """The fastest limit that can take duplicates."""
    ways = [best(found, "limit: COPY into staging"), best(found, "limit: UNNEST")]
    return max((way for way in ways if way), key=Summary.rate, default=None)


def best_copy(found: list[Summary]) -> Summary | None:
    """The fastest plain COPY."""
    return best(found, "limit: plain COPY")


def latencies(figures: Figures) -> dict[str, tuple[float, float]]:
    """The medians of p50 and p99 for each contender."""
    by_name: dict[str, list[Figures]] = {}
    for run in figures.get("latency", []):
        if run["problem"] is None and run["missing"] == 0:
            by_name.setdefault(run["contender"], []).append(run)
    return {
        name: (median(run["p50"] for run in runs), median(run["p99"] for run in runs))
        for name, runs in by_name.items()
    }


def compared(figures: Figures) -> str:
    """Everybody, in one table."""
    found = summaries(figures)
    idempotent, copy, times = best_idempotent(found), best_copy(found), latencies(figures)
    lines = [
        row(
            "", "rows/s, min / **median** / max", "of ON CONFLICT", "of COPY", "with its start",
            "CPU s per million, program", "Postgres", "peak MB", "WAL MB per million",
            "latency ms, p50 / p99",
        ),
        row("---", *["---:"] * 9),
    ]  # fmt: skip
    for each in found:
        if not each.good:
            lines.append(row(each.name, f"failed: {one_line(each.problems[0])}", *[""] * 8))
            continue
        low, middle, high = each.rates()[0], each.rate(), each.rates()[-1]
        is_writer = each.of("wal_bytes") > 0
        is_program = each.kind != "limit"
        lines.append(
            row(
                each.name + (f" ({len(each.problems)} failed)" if each.problems else ""),
                f"{low:,.0f} / **{middle:,.0f}** / {high:,.0f}",
                ratio(middle, idempotent),
                ratio(middle, copy),
                f"{each.whole_rate():,.0f}" if is_program or not is_writer else "",
                f"{each.of('program_cpu', True):.1f}" if is_program or not is_writer else "",
                f"{each.of('postgres_cpu', True):.1f}" if is_writer else "",
                f"{each.of('peak_memory') / MB:,.0f}" if is_program else "",
                f"{each.of('wal_bytes', True) / MB:,.0f}" if is_writer else "",
                "{:.0f} / {:.0f}".format(*times[each.name]) if each.name in times else "",
            )
        )
    return "\n".join([*lines, "", *notes(found, figures)])


def notes(found: list[Summary], figures: Figures) -> list[str]:
    """What to know about a table's runs: how quiet the machine was, and who failed."""
    noise = max((run["other_cores"] for each in found for run in each.good), default=0.0)
    speeds = [run["calibration"] for each in found for run in each.good if run["calibration"]]
    runs = "1 run" if figures["repeats"] == 1 else f"{figures['repeats']} runs"
    lines = [
        f"{figures['rows']:,} records, {runs} each. Others took at most"
        f" {noise:.2f} cores during a run; the same piece of work took"
        f" {min(speeds, default=0):.3f} to {max(speeds, default=0):.3f} CPU seconds."
    ]
    for each in found:
        lines += [f"- {each.name}: {one_line(problem)}" for problem in each.problems]
    for run in figures.get("latency", []):
        if run["problem"] or run["missing"]:
            what = run["problem"] or f"{run['missing']} rows missing"
            lines.append(f"- latency of {run['contender']}: {one_line(what)}")
    return lines


def machine(figures: Figures) -> str:
    """What it was measured on."""
    lines = [row("", ""), row("---", "---")]
    return "\n".join([*lines, *(row(name, text) for name, text in figures["host"].items())])


def ratio(rate: float, to: Summary | None) -> str:
    """A rate as a share of the best of its kind."""
    return f"{rate / to.rate():.2f}" if to else ""


def row(*cells: str) -> str:
    """A line of a table."""
    return "| " + " | ".join(cells) + " |"


def one_line(text: str) -> str:
    """For a cell, or an item."""
    return " ".join(text.replace("|", "/").split())[:300]
