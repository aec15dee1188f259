"""What was aimed at, and whether it was reached: ratios within one invocation."""

from typing import Any, NamedTuple

from bench.tables import MB, Summary, best, best_copy, best_idempotent, latencies, row, summaries


class Target(NamedTuple):
    """What was aimed at, and what was measured; `is_most` where less is better."""

    what: str
    aim: float
    value: float | None
    is_most: bool = False

    def reached(self) -> str:
        """As in the table."""
        if self.value is None:
            return ""
        is_reached = self.value <= self.aim if self.is_most else self.value >= self.aim
        return "reached" if is_reached else "**missed**"


def targets(figures: dict[str, Any]) -> str:
    """A line for each target."""
    lines = [row("target", "aim", "measured", ""), row("---", "---", "---", "---")]
    for each in _measured(figures):
        aim = f"at {'most' if each.is_most else 'least'} {each.aim:g}"
        value = "not measured" if each.value is None else f"{each.value:.2f}"
        lines.append(row(each.what, aim, value, each.reached()))
    return "\n".join(lines)


def _measured(figures: dict[str, Any]) -> list[Target]:
    found = {each.name: each for each in summaries(figures)}
    everybody = list(found.values())
    ours = found.get("sluicegate")

    def times(other: Summary | None) -> float | None:
        if ours is None or other is None or not (ours.good and other.good):
            return None
        return ours.rate() / other.rate()

    dirty = times(found.get("sluicegate, 10 % invalid"))
    memory = ours.of("peak_memory") / MB if ours and ours.good else None
    p99 = latencies(figures).get("sluicegate", (None, None))[1]
    return [
        Target(
            "rows/s, as a multiple of the fastest ON CONFLICT",
            1.1,
            times(best_idempotent(everybody)),
        ),
        Target("rows/s, as a multiple of the fastest plain COPY", 0.6, times(best_copy(everybody))),
        Target("rows/s, as a multiple of the best peer", 2.5, times(best(everybody, "peer: "))),
        Target("rows/s, as a multiple of Kafka Connect", 4.0, times(found.get("peer: connect"))),
        Target("peak memory, MB", 150, memory, is_most=True),
        Target("p99 from append to commit at 5,000/s, ms", 300, p99, is_most=True),
        Target(
            "share of rows/s that 10 % invalid cost",
            0.25,
            1 - 1 / dirty if dirty else None,
            is_most=True,
        ),
    ]
