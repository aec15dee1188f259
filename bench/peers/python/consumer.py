"""Lands a topic's Avro events in a table, as a good Python program would; one member of the group BENCH_GROUP.

At least once from Kafka, since offsets are committed after the rows, and once in the table, since a row that is there
already is left alone. Runs until SIGTERM or SIGINT.
"""

import gc
import json
import os
import signal
import struct
import sys
import urllib.request
from functools import cache
from io import BytesIO
from operator import itemgetter

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException
from fastavro import parse_schema, schemaless_reader
from psycopg import sql

BATCH_ROWS = 20_000
BATCH_SECONDS = 0.2

FIELDS = ("event_id", "device_id", "zone", "ts", "kpi", "value")
# as Avro has them; Postgres turns the id's text into a uuid and the milliseconds into a time, much faster than Python
STAGED_TYPES = ("text", "text", "text", "int8", "text", "float8")
CREATE_STAGED = f"""
    CREATE TEMPORARY TABLE staged ({", ".join(map(" ".join, zip(FIELDS, STAGED_TYPES)))}) ON COMMIT DELETE ROWS
"""
COPY = "COPY staged FROM STDIN (FORMAT BINARY)"
INSERT = """
    INSERT INTO {table} (event_id, device_id, zone, ts, kpi, value)
    SELECT event_id::uuid, device_id, zone, timestamptz 'epoch' + ts * interval '1 millisecond', kpi, value FROM staged
    ON CONFLICT (event_id) DO NOTHING
"""

# the group has given our partitions to another member, who gets the records again
NO_LONGER_OURS = (
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError._ASSIGNMENT_LOST,
    KafkaError._NO_OFFSET,
)


def main():
    stopping = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopping.append(number))
    # a batch is tens of thousands of objects without a cycle among them, which the collector would visit often
    gc.disable()

    insert = sql.SQL(INSERT).format(table=sql.Identifier(*os.environ["BENCH_TABLE"].split(".")))
    consumer = subscribe()
    with psycopg.connect(os.environ["DATABASE_URL"]) as database:
        database.execute(CREATE_STAGED)
        database.commit()
        while not stopping:
            messages = consumer.consume(BATCH_ROWS, BATCH_SECONDS)
            if messages:
                write(database, insert, messages)
                commit(consumer)
    consumer.close()


def subscribe():
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ["KAFKA_BROKERS"],
            "group.id": os.environ["BENCH_GROUP"],
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            # a member that joins takes one partition, and the others go on with theirs as soon as they hear of it
            "partition.assignment.strategy": "cooperative-sticky",
            "heartbeat.interval.ms": 200,
            "fetch.min.bytes": 262_144,
            "fetch.wait.max.ms": 100,
            "fetch.queue.backoff.ms": 5,
        }
    )
    consumer.subscribe([os.environ["BENCH_TOPIC"]])
    return consumer


def write(database, insert, messages):
    with database.transaction(), database.cursor() as cursor:
        with cursor.copy(COPY) as copy:
            copy.set_types(STAGED_TYPES)
            for message in messages:
                if message.error():
                    raise KafkaException(message.error())
                copy.write_row(columns(decode(message.value())))
        cursor.execute(insert)


def commit(consumer):
    try:
        consumer.commit(asynchronous=False)
    except KafkaException as error:
        if error.args[0].code() not in NO_LONGER_OURS:
            raise
        print(error, file=sys.stderr)


columns = itemgetter(*FIELDS)
header = struct.Struct(">bI")


def decode(value):
    """A record in Confluent's format: a zero, the schema's id, the event in Avro."""
    _, schema_id = header.unpack_from(value)
    body = BytesIO(value)
    body.seek(header.size)
    return schemaless_reader(body, fetch_schema(schema_id))


@cache
def fetch_schema(schema_id):
    with urllib.request.urlopen(f"{os.environ['SCHEMA_REGISTRY_URL']}/schemas/ids/{schema_id}") as answer:
        schema = json.loads(json.load(answer)["schema"])
    # without logical types fastavro is twice as fast: it makes no UUID and no datetime
    for field in schema["fields"]:
        if isinstance(field["type"], dict):
            field["type"].pop("logicalType", None)
    return parse_schema(schema)


main()
