"""Which way to write a batch, by figures: `make bench WHAT=writes`. One thing at a time is other than at the base."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import psycopg

from bench import database, host, ways
from bench.compare import figures, repeat
from bench.database import CREATE_PLAIN_TABLE, PLAIN_TABLE, Contents
from bench.encode import Rows, arrays, copy_binary
from bench.events import Part, Plan, part, ranks
from bench.measure import Result
from bench.processes import cpu_of_tree
from bench.settings import Settings
from bench.ways import Filtered

ROWS = 300_000
WRONG_EVERY = 10  # batches
STAGING, UNNEST, DIRECT, WRONG = "staging", "unnest", "direct", "direct, sometimes wrong"
WAYS = (STAGING, UNNEST, DIRECT, WRONG)


@dataclass(frozen=True)
class Point:
    """What is written, and how; connections have no rows in common."""

    name: str = "base"
    batch_rows: int = 20_000
    is_sorted: bool = True
    connections: int = 2
    duplicates: float = 0.01

    def plan(self, rows: int) -> Plan:
        """A partition a connection, so that it alone sees an event's duplicates."""
        return Plan(rows, partitions=self.connections, duplicates=self.duplicates)


BASE = Point()
POINTS = (
    BASE,
    *(replace(BASE, name=f"{n:,} rows a batch", batch_rows=n) for n in (1_000, 5_000, 10_000, 50_000)),
    replace(BASE, name="not sorted", is_sorted=False),
    replace(BASE, name="1 connection", connections=1),
    replace(BASE, name="3 connections", connections=3),
    replace(BASE, name="no duplicates", duplicates=0.0),
    replace(BASE, name="50 % duplicates", duplicates=0.5),
)  # fmt: skip


def writes(settings: Settings) -> dict[str, Any]:
    """All ways at each point."""
    steps: list[Callable[[int], Result]] = []
    wanted: dict[Plan, Contents] = {}
    for point in filter(lambda point: settings.wants(point.name), POINTS):
        plan = point.plan(settings.rows)
        if plan not in wanted:
            wanted[plan] = database.reference(settings, plan)
        for way in WAYS:
            if way != WRONG or point.duplicates:
                steps.append(partial(_measure, settings, point, way, wanted[plan]))
    return figures(settings, repeat(settings, steps))


def contender(point: Point, way: str) -> str:
    """Its name among the results."""
    return f"{point.name}: {way}"


def _measure(settings: Settings, point: Point, way: str, wanted: Contents, _: int) -> Result:
    """One run. Connections are open and rows are encoded before the clock starts."""
    result = Result(contender(point, way), "write", settings.rows)
    batches = [list(_batches(settings.rows, point, way, n)) for n in range(point.connections)]
    url = database.fresh(settings, "bench_run")
    try:
        database.execute(url, CREATE_PLAIN_TABLE)
        wrong = _write(settings, url, way, batches, result)
        result.details = {"batches": sum(map(len, batches)), "wrong": wrong}
        if wrong != sum(_is_wrong(batch) for each in batches for batch in each):
            result.problem = f"wrong in {wrong} batches"
        if database.contents_of(url, PLAIN_TABLE) != wanted:
            result.problem = "wrong contents: the rows differ from what was sent"
    except Exception as error:  # noqa: BLE001 - the others still have their turn
        result.problem = f"{type(error).__name__}: {error}"
    return result


def _write(settings: Settings, url: str, way: str, batches: list[list], result: Result) -> int:
    """Gives the number of batches that had to be written twice."""
    prepare = ways.prepare_unnest if way == UNNEST else ways.make_staging
    services = host.services(settings)
    result.calibration = host.calibration()
    with ExitStack() as stack:
        connections = [stack.enter_context(psycopg.connect(url)) for _ in batches]
        for connection in connections:
            prepare(connection)
        database.execute(url, "checkpoint")
        load_before = host.Load.now(services)
        postgres_before = cpu_of_tree(services.postgres)
        began = time.monotonic()
        with ThreadPoolExecutor(len(batches)) as threads:
            wrong = list(threads.map(partial(_write_all, way), connections, batches))
        result.active_seconds = result.whole_seconds = time.monotonic() - began
        result.postgres_cpu = cpu_of_tree(services.postgres) - postgres_before
        result.other_cores = host.Load.now(services).others_since(load_before, 0.0)
    return sum(wrong)


def _write_all(way: str, connection: psycopg.Connection, batches: list) -> int:
    write: Callable = _WRITE.get(way, ways.directly)
    wrong = 0
    for batch in batches:
        wrong += bool(write(connection, batch))
        connection.commit()
    return wrong


_WRITE: dict[str, Callable] = {STAGING: ways.through_staging, UNNEST: ways.unnest}


def _batches(
    rows: int, point: Point, way: str, connection: int
) -> Iterator[bytes | list[bytes] | Filtered]:
    """What one connection writes, as its way wants it."""
    events = part(point.plan(rows), connection)
    rank = ranks(events.ids)
    is_new = np.zeros(len(events.order), dtype=bool)
    is_new[np.unique(events.order, return_index=True)[1]] = True
    for number, start in enumerate(range(0, len(events.order), point.batch_rows)):
        batch = events.order[start : start + point.batch_rows]
        new = is_new[start : start + point.batch_rows]
        if point.is_sorted:
            order = np.argsort(rank[batch], kind="stable")
            batch, new = batch[order], new[order]
        if way == STAGING:
            yield copy_binary(events, batch)
        elif way == UNNEST:
            yield arrays(events, batch)
        else:
            is_wrong = (number * point.connections + connection) % WRONG_EVERY == WRONG_EVERY // 2
            yield _filtered(events, batch, new, way == WRONG and is_wrong)


def _filtered(events: Part, batch: Rows, new: np.ndarray, is_wrong: bool) -> Filtered:
    """By a perfect filter, or by one that misses a duplicate: that in the middle, so that half of the COPY is lost."""
    suspects = (~new).nonzero()[0]
    is_wrong = is_wrong and len(suspects) > 0
    if is_wrong:
        new = new.copy()
        new[suspects[len(suspects) // 2]] = True
    # the sink does not try then either
    is_tried = new.sum() >= (~new).sum()
    return Filtered(
        new=copy_binary(events, batch[new]) if is_tried else b"",
        suspects=copy_binary(events, batch[~new]) if is_tried and not new.all() else b"",
        rows=copy_binary(events, batch) if is_wrong or not is_tried else b"",
    )


def _is_wrong(batch: bytes | list[bytes] | Filtered) -> bool:
    return isinstance(batch, Filtered) and bool(batch.new and batch.rows)
