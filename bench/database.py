"""A database for each run, what is in it, and when it got there."""

from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import psycopg

from bench.encode import copy_binary
from bench.events import Plan, parts
from bench.settings import Settings

COLUMNS = "event_id, device_id, zone, ts, kpi, value"
COPY = f"copy {{}} ({COLUMNS}) from stdin (format binary)"
COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"
# that of contenders other than sluicegate, whose own has the label as a further column
PLAIN_TABLE = "telemetry"
CREATE_PLAIN_TABLE = f"""
    create table {PLAIN_TABLE} (
        event_id uuid primary key, device_id text not null, zone text not null,
        ts timestamptz not null, kpi text not null, value float8 not null);
    create index on {PLAIN_TABLE} (ts)"""


@dataclass(frozen=True)
class Contents:
    """What a table holds: the number of rows, and a sum over the hashes of all of their columns."""

    rows: int
    checksum: int


def fresh(settings: Settings, name: str, template: str = "template1") -> str:
    """Makes the database anew, and returns its address. What was written is on disk afterwards."""
    with psycopg.connect(settings.database, autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)")
        connection.execute(f"create database {name} template {template} strategy file_copy")
        connection.execute("checkpoint")
    return address(settings, name)


def drop(settings: Settings, name: str) -> None:
    """Deletes the database."""
    with psycopg.connect(settings.database, autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)")


def address(settings: Settings, name: str) -> str:
    """The address of a database of the benchmark's server."""
    return urlunsplit(urlsplit(settings.database)._replace(path=f"/{name}"))


def execute(url: str, statements: str) -> None:
    """Runs statements."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statements)


def reference(settings: Settings, plan: Plan) -> Contents:
    """What a table must hold after the topic of this plan: each valid event once."""
    url = fresh(settings, "bench_reference")
    execute(url, CREATE_PLAIN_TABLE)
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        with cursor.copy(COPY.format(PLAIN_TABLE)) as copy:
            copy.write(COPY_HEADER)
            for part in parts(plan):
                copy.write(copy_binary(part, (~part.invalid).nonzero()[0]))
            copy.write(COPY_TRAILER)
    contents = contents_of(url, PLAIN_TABLE)
    drop(settings, "bench_reference")
    return contents


def contents_of(url: str, table: str) -> Contents:
    """What the table holds now."""
    row = _row(
        url,
        f"""select count(*), coalesce(sum(hash_record_extended(row({COLUMNS}), 0)::numeric), 0)
            from {table}""",
    )
    return Contents(rows=int(row[0]), checksum=int(row[1]))


def number(url: str, query: str) -> int:
    """The only value that a query answers with."""
    return int(_row(url, query)[0])


def _row(url: str, query: str) -> tuple:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row
