"""Watches a table grow without costing the contender much."""

import time
from dataclasses import dataclass, field

import psycopg


@dataclass
class Watch:
    """One table of one run. The size of its file tells that something was written; rows are only counted when it has
    grown no further, or once a second."""

    url: str
    table: str
    rows: int
    dead_letters: int = 0
    first_page: float | None = None
    grew_at: float = field(default_factory=time.monotonic)
    _size: int = 0
    _start: int = 0
    _before: int = 0
    _counted_at: float = 0.0
    _connection: psycopg.Connection | None = field(default=None, repr=False)

    def __enter__(self) -> "Watch":
        self._connection = psycopg.connect(self.url, autocommit=True)
        # a worker's CPU time would count as the contender's
        self._connection.execute("set max_parallel_workers_per_gather = 0")
        self._start = self._size = self._measure()[0]
        self._before = self._number(f"select count(*) from {self._tail()}")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._connection is not None
        self._connection.close()

    @property
    def pid(self) -> int:
        """The process that answers, whose CPU time is not the contender's."""
        assert self._connection is not None
        return self._connection.info.backend_pid

    def is_complete(self) -> bool:
        """Looks once; whether all rows and dead letters are there."""
        size, now = self._measure()
        grew, self._size = size != self._size, size
        if size != self._start and self.first_page is None:
            self.first_page = now
        if self.first_page is None and self.rows > 0:
            return False
        if grew:
            self.grew_at = time.monotonic()
        # counting reads the whole table, which a contender would pay for at each pause of its own
        overdue = not grew and time.monotonic() - self._counted_at > 1.0
        return overdue and self._count()

    def new_rows(self) -> int:
        """How many rows came since the watch began."""
        return self._number(f"select count(*) from {self._tail()}") - self._before

    def last_commit(self) -> float:
        """When the last of the rows was committed."""
        row = self._fetch(
            f"""select extract(epoch from max(pg_xact_commit_timestamp(xmin)))
                from (select distinct xmin from {self._tail()}) as transactions"""
        )
        return float(row[0])

    def _tail(self) -> str:
        """The table from the page on that was the last when the watch began: new rows fill it first."""
        page = max(0, self._start // 8192 - 1)
        return f"{self.table} where ctid >= '({page},0)'"

    def progress(self) -> str:
        """How far it has come, in words."""
        text = f"{self.new_rows():,} of {self.rows:,} rows"
        if self.dead_letters:
            text += f", {self._dead_letters():,} of {self.dead_letters:,} dead letters"
        return text

    def _count(self) -> bool:
        self._counted_at = time.monotonic()
        return self.new_rows() >= self.rows and (
            self.dead_letters == 0 or self._dead_letters() >= self.dead_letters
        )

    def _dead_letters(self) -> int:
        return self._number("select count(*) from dlq_events")

    def _measure(self) -> tuple[int, float]:
        row = self._fetch(
            f"select pg_relation_size('{self.table}'), extract(epoch from clock_timestamp())"
        )
        return int(row[0]), float(row[1])

    def _number(self, query: str) -> int:
        return int(self._fetch(query)[0])

    def _fetch(self, query: str) -> tuple:
        assert self._connection is not None
        row = self._connection.execute(query).fetchone()
        assert row is not None
        return row
