"""What was aimed at, and whether it was reached: ratios within one invocation."""

from collections.abc import Iterator
from typing import Any

from bench.tables import MB, best, best_copy, best_idempotent, latencies, row, summaries


def targets(figures: dict[str, Any]) -> str:
    """A line for each target."""
    lines = [row("target", "aim", "measured", ""), row("---", "---", "---", "---")]
    for what, aim, value, is_most in _measured(figures):
        reached = value is not None and (value <= aim if is_most else value >= aim)
        lines.append(
            row(
                what,
                f"at {'most' if is_most else 'least'} {aim:g}",
                "not measured" if value is None else f"{value:.2f}" if aim < 50 else f"{value:.0f}",
                "" if value is None else "reached" if reached else "**missed**",
            )
        )
    return "\n".join(lines)


def _measured(figures: dict[str, Any]) -> Iterator[tuple[str, float, float | None, bool]]:
    """What, the aim, the value, and whether the aim is the most rather than the least."""
    found = {each.name: each for each in summaries(figures)}
    everybody = list(found.values())
    ours = found.get("sluicegate")

    def times(other: Any) -> float | None:
        is_known = ours is not None and ours.good and other is not None and other.good
        return ours.rate() / other.rate() if ours and is_known else None

    yield "rows/s, as a multiple of the fastest ON CONFLICT", 1.1, times(best_idempotent(everybody)), False
    yield "rows/s, as a share of the fastest plain COPY", 0.6, times(best_copy(everybody)), False
    yield "rows/s, as a multiple of the best peer", 2.5, times(best(everybody, "peer: ")), False
    yield "rows/s, as a multiple of Kafka Connect", 4.0, times(found.get("peer: connect")), False
    memory = ours.of("peak_memory") / MB if ours and ours.good else None
    yield "peak memory, MB", 150, memory, True
    p99 = latencies(figures).get("sluicegate", (None, None))[1]
    yield "p99 from append to commit at 5,000/s, ms", 300, p99, True
    dirty = times(found.get("sluicegate, 10 % invalid"))
    lost = 1 - 1 / dirty if dirty else None
    yield "share of the rows/s that 10 % invalid cost", 0.25, lost, True
