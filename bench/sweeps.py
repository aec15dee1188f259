"""How sluicegate's own settings matter: `make bench WHAT=sink-tasks`, `WHAT=batch-rows`."""

from collections.abc import Callable
from functools import partial
from typing import Any

from bench.compare import figures, load, repeat
from bench.events import Plan
from bench.measure import Result, measure
from bench.settings import Settings
from bench.sluicegate import Sluicegate, contract

SINK_TASKS = (1, 2, 3)
BATCH_ROWS = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)


def sink_tasks(settings: Settings) -> dict[str, Any]:
    """Connections to the database."""
    return _sweep(settings, "--sink-tasks", SINK_TASKS)


def batch_rows(settings: Settings) -> dict[str, Any]:
    """Records a batch."""
    return _sweep(settings, "--batch-rows", BATCH_ROWS)


def _sweep(settings: Settings, flag: str, values: tuple[int, ...]) -> dict[str, Any]:
    clean = load(settings, "bench.clean", Plan(settings.rows))
    steps: list[Callable[[int], Result]] = []
    for value in values:
        contender = Sluicegate(
            f"{flag} {value}", settings, clean, contract(clean.topic), arguments=(flag, str(value))
        )
        steps.append(partial(measure, settings, contender))
    return figures(settings, repeat(settings, steps))
