"""What more work costs: a larger table, more partitions and members, larger events."""

import random
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from confluent_kafka import Producer

from bench import database, topic
from bench.compare import figures, load, repeat, say
from bench.contender import Load
from bench.events import KPIS, START_MS, Plan
from bench.measure import Result, measure
from bench.settings import Settings
from bench.sluicegate import STREAM, Sluicegate, contract
from bench.topic import PRODUCER

TABLE_ROWS = (0, 1_000_000, 5_000_000, 20_000_000)
PARTITIONS = (1, 3, 12)
MEMBERS = (1, 2, 3)
EVENT_BYTES = (1_000, 10_000, 100_000)
# of a topic of large events
TOPIC_BYTES = 300_000_000
_FILLED = "bench_filled"


def growth(settings: Settings) -> dict[str, Any]:
    """All three, each for as many repeats as are wanted."""
    results = []
    for name, steps in PARTS.items():
        if settings.wants(name):
            for group in steps(settings):
                results += repeat(settings, group)
    return figures(settings, results)


Steps = list[Callable[[int], Result]]


def _partitions_and_members(settings: Settings) -> Iterator[Steps]:
    steps: Steps = []
    for partitions in PARTITIONS:
        name = f"bench.partitions-{partitions}"
        expected = load(settings, name, Plan(settings.rows, partitions=partitions))
        for members in MEMBERS:
            if members > partitions:
                continue
            contender = Sluicegate(
                f"{_counted(partitions, 'partition')}, {_counted(members, 'member')}",
                settings, expected, contract(name), members=members,
            )  # fmt: skip
            details = {"partitions": partitions, "members": members}
            steps.append(_step(settings, contender, details))
    yield steps


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number > 1 else "")


def _event_sizes(settings: Settings) -> Iterator[Steps]:
    steps: Steps = []
    for size in EVENT_BYTES:
        expected = _load_large(settings, size)
        contender = Sluicegate(
            f"{size / 1000:g} kB events", settings, expected, _large_contract(expected.topic),
            stream="documents", bare=True,
        )  # fmt: skip
        steps.append(_step(settings, contender, {"event_bytes": size}))
    yield steps


def _table_sizes(settings: Settings) -> Iterator[Steps]:
    """Each run gets a copy of one database, which is filled further between the sizes."""
    expected = replace(load(settings, "bench.table", Plan(settings.rows)), checksum=0)
    url = database.fresh(settings, _FILLED)
    template = Sluicegate("template", settings, expected, contract(expected.topic))
    directory = settings.scratch / "filled"
    template.migrate_into(url, directory)
    shutil.rmtree(directory)
    there = 0
    for size in TABLE_ROWS:
        _fill(url, there, size)
        there = size
        contender = OnFilledTable(
            f"{size / 1e6:g} million rows before", settings, expected, contract(expected.topic),
            prefilled=True,
        )  # fmt: skip
        yield [_step(settings, contender, {"table_rows": size})]
    database.drop(settings, _FILLED)


PARTS: dict[str, Callable[[Settings], Iterator[Steps]]] = {
    "members": _partitions_and_members,
    "events": _event_sizes,
    "table": _table_sizes,
}


@dataclass(frozen=True)
class OnFilledTable(Sluicegate):
    """Starts from a copy of the filled database."""

    template: str = field(default=_FILLED)


def _step(
    settings: Settings, contender: Sluicegate, details: Mapping[str, float]
) -> Callable[[int], Result]:
    def step(number: int) -> Result:
        result = measure(settings, contender, number)
        result.details = dict(details)
        return result

    return step


def _fill(url: str, start: int, end: int) -> None:
    """Rows as sluicegate would have landed them earlier, through the indexes that the table has."""
    began = time.monotonic()
    kpis = "(array['" + "', '".join(KPIS) + "'])"
    with psycopg.connect(url, autocommit=True) as connection:
        for first in range(start, end, 1_000_000):
            connection.execute(
                f"""insert into {STREAM} (event_id, device_id, zone, ts, kpi, value, is_degraded)
                    select gen_random_uuid(), 'device-' || lpad((n % 999)::text, 5, '0'),
                        'zone-' || lpad((n % 20)::text, 2, '0'),
                        to_timestamp(({START_MS} - {TABLE_ROWS[-1]} + n) / 1000.0),
                        {kpis}[1 + n % 4], random() * 100, n % 10 = 0
                    from generate_series({first}, {min(first + 1_000_000, end) - 1}) as n"""
            )
        connection.execute(f"vacuum (freeze, analyze) {STREAM}")
    if end > start:
        say(f"{end - start:,} rows more in {time.monotonic() - began:.0f} s")


def _large_contract(name: str) -> dict[str, Any]:
    uuid = {"type": "string", "logicalType": "uuid"}
    timestamp = {"type": "long", "logicalType": "timestamp-millis"}
    return {
        "type": "record",
        "name": "Document",
        "namespace": "sluicegate.bench",
        "doc": "A large event.",
        "sluicegate": {"topic": name, "key": "event_id", "time": "ts"},
        "fields": [
            {"name": "event_id", "type": uuid, "doc": "Idempotency key."},
            {"name": "ts", "type": timestamp},
            {"name": "body", "type": "string"},
        ],
    }


def _load_large(settings: Settings, size: int) -> Load:
    """A topic of events that differ, and whose text hardly compresses."""
    name, count = f"bench.large-{size}", TOPIC_BYTES // size
    chance = random.Random(size)
    topic.create(settings, name, 3)
    schema_id = topic.register(settings, name, _large_contract(name))
    header = b"\0" + schema_id.to_bytes(4, "big")
    body = secrets.token_hex(1_000_000)
    length = size - 5 - 37 - 6 - 3
    producer = Producer({"bootstrap.servers": settings.brokers, **PRODUCER})
    for number in range(count):
        start = chance.randrange(len(body) - length)
        key = f"{chance.getrandbits(96):024x}{number:08x}"
        key = f"{key[:8]}-{key[8:12]}-4{key[13:16]}-8{key[17:20]}-{key[20:]}"
        text = body[start : start + length].encode()
        value = b"".join(
            (header, b"\x48", key.encode(), _long(START_MS + number), _long(length), text)
        )
        producer.produce(name, value, key, partition=number % 3)
        if number % max(1, 50_000_000 // size) == 0:
            producer.flush()
    producer.flush()
    say(f"{name}: {count:,} records")
    return Load(name, 3, count, count, 0)


def _long(number: int) -> bytes:
    """Avro's zigzag, for a number that is not negative."""
    left, encoded = number * 2, bytearray()
    while left > 0x7F:
        encoded.append(left & 0x7F | 0x80)
        left >>= 7
    encoded.append(left)
    return bytes(encoded)
