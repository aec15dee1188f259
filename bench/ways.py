"""Ways to write one batch of rows that were made ready beforehand, each within a transaction of the caller's."""

from dataclasses import dataclass

import psycopg
from psycopg.errors import UniqueViolation

from bench.database import COLUMNS, COPY, COPY_HEADER, COPY_TRAILER, PLAIN_TABLE

_UNNEST = f"""insert into {PLAIN_TABLE} ({COLUMNS})
    select * from unnest($1, $2, $3, $4, $5, $6) on conflict (event_id) do nothing"""
_ARRAY_TYPES = [2951, 1009, 1009, 1185, 1009, 1022]


@dataclass(frozen=True)
class Filtered:
    """The rows of a batch for COPY, and the same again as new ones and suspects. `new` is empty where it is not worth
    the try; `rows` are needed only there, and where one of the new rows is not new."""

    new: bytes
    suspects: bytes
    rows: bytes = b""


def directly(connection: psycopg.Connection, batch: Filtered) -> bool:
    """As src/sink/direct.rs does; says whether Postgres refused it and it had to go through staging after all."""
    if not batch.new:
        through_staging(connection, batch.rows)
        return False
    connection.execute("savepoint direct")
    try:
        copy(connection, batch.new)
        if batch.suspects:
            through_staging(connection, batch.suspects)
    except UniqueViolation:
        connection.execute("rollback to savepoint direct; release savepoint direct")
        through_staging(connection, batch.rows)
        return True
    connection.execute("release savepoint direct")
    return False


def copy(connection: psycopg.Connection, batch: bytes, table: str = PLAIN_TABLE) -> None:
    """Plain COPY, which cannot take duplicates."""
    with connection.cursor() as cursor, cursor.copy(COPY.format(table)) as copying:
        copying.write(COPY_HEADER + batch + COPY_TRAILER)


def through_staging(connection: psycopg.Connection, batch: bytes) -> None:
    """COPY into a temporary table, and from there what is not in the table yet."""
    copy(connection, batch, "staging")
    connection.execute(
        f"insert into {PLAIN_TABLE} ({COLUMNS}) select {COLUMNS} from staging"
        " on conflict (event_id) do nothing"
    )


def make_staging(connection: psycopg.Connection) -> None:
    """The temporary table, once a connection."""
    connection.execute(f"create temp table staging (like {PLAIN_TABLE}) on commit delete rows")
    connection.commit()


def unnest(connection: psycopg.Connection, batch: list[bytes]) -> None:
    """All rows as one array a column."""
    connection.execute("select")  # opens the transaction
    result = connection.pgconn.exec_prepared(b"unnest", batch, [1] * len(batch))
    if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
        raise RuntimeError(result.error_message.decode(errors="replace"))


def prepare_unnest(connection: psycopg.Connection) -> None:
    """The statement, once a connection."""
    connection.pgconn.prepare(b"unnest", _UNNEST.encode(), _ARRAY_TYPES)
