"""Postgres' own limits: rows that were made ready beforehand, written as fast as it takes them."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import psycopg

from bench import database, ways
from bench.contender import Load, Run
from bench.database import PLAIN_TABLE
from bench.encode import arrays, copy_binary
from bench.events import Part, Plan, parts, ranks
from bench.processes import Program, fork

BATCH_ROWS = 20_000


@dataclass(frozen=True)
class Limit:
    """One way to write, over so many connections. Plain COPY cannot take duplicates, so it gets each row once."""

    way: str
    connections: int
    plan: Plan
    expected: Load
    kind: str = "limit"
    table: str = PLAIN_TABLE

    @property
    def name(self) -> str:
        """As in the table of results."""
        return f"limit: {self.way}, {self.connections} connection{'s'[: self.connections - 1]}"

    def load(self) -> Load:
        """Records are rows where duplicates are left out."""
        return self.expected

    def prepare(self, run: Run) -> None:
        """The table, and the payload: made once for all repeats."""
        database.execute(run.database, database.CREATE_PLAIN_TABLE)
        _payload(self.way, self.plan, self.connections)

    def start(self, run: Run) -> list[Program]:
        """All connections in one process, a thread each: their work is the server's."""
        payload = _payload(self.way, self.plan, self.connections)
        return [fork(lambda: _write_all(self.way, run.database, payload), run.log)]

    def problem(self, run: Run) -> str | None:
        """Nothing but the rows is written."""
        return None


COPY_WAY = "plain COPY"
STAGING_WAY = "COPY into staging, ON CONFLICT"
UNNEST_WAY = "UNNEST, ON CONFLICT"
WAYS = (COPY_WAY, STAGING_WAY, UNNEST_WAY)


@cache
def _payload(way: str, plan: Plan, connections: int) -> list[list]:
    """For each connection its batches."""
    payload: list[list] = [[] for _ in range(connections)]
    encode: Callable = arrays if way == UNNEST_WAY else copy_binary
    for part, connection, rows in _shares(way, plan, connections):
        payload[connection].append(encode(part, rows))
    return payload


def _shares(way: str, plan: Plan, connections: int) -> Iterator[tuple[Part, int, np.ndarray]]:
    """Equal shares of the partitions: an event and its duplicate go over one connection, but for a few at the cuts."""
    for number, part in enumerate(parts(plan)):
        order = np.arange(len(part.ids)) if way == COPY_WAY else part.order
        rank = ranks(part.ids)
        cuts = {0, len(order)}
        for share in range(connections + 1):
            place = (share * plan.partitions / connections - number) * len(order)
            cuts.add(min(max(round(place), 0), len(order)))
        for start, end in pairwise(sorted(cuts)):
            middle = number + (start + end) / 2 / len(order)
            connection = int(middle * connections / plan.partitions)
            for batch in range(start, end, BATCH_ROWS):
                rows = order[batch : min(batch + BATCH_ROWS, end)]
                # as sluicegate does, which the key's index likes
                yield part, connection, rows[np.argsort(rank[rows], kind="stable")]


def _write_all(way: str, url: str, payload: list[list]) -> None:
    failures: list[BaseException] = []
    ready = threading.Barrier(len(payload))

    def write(batches: list) -> None:
        try:
            with psycopg.connect(url) as connection:
                _PREPARE[way](connection)
                ready.wait(30)
                for batch in batches:
                    _WRITE[way](connection, batch)
                    connection.commit()
        except BaseException as failure:  # noqa: BLE001 - it is raised below
            failures.append(failure)

    threads = [threading.Thread(target=write, args=(batches,)) for batches in payload]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


_PREPARE: dict[str, Callable] = {
    COPY_WAY: lambda _: None,
    STAGING_WAY: ways.make_staging,
    UNNEST_WAY: ways.prepare_unnest,
}
_WRITE: dict[str, Callable] = {
    COPY_WAY: ways.copy,
    STAGING_WAY: ways.through_staging,
    UNNEST_WAY: ways.unnest,
}
