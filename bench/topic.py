"""Topics full of events, made once and read by every contender."""

import json
import multiprocessing
import time
import urllib.request
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from bench.encode import AVRO_BYTES, avro
from bench.events import Plan, device_name, part
from bench.settings import Settings

PRODUCER = {
    "compression.type": "none",
    "acks": "all",
    "linger.ms": 20,
    "batch.size": 1_000_000,
    "queue.buffering.max.messages": 1_000_000,
    "queue.buffering.max.kbytes": 1_000_000,
    "message.max.bytes": 1_000_000,
}


def preload(settings: Settings, topic: str, plan: Plan, schema: dict[str, Any]) -> float:
    """Makes the topic and fills it, one process a partition; returns the seconds it took."""
    began = time.monotonic()
    create(settings, topic, plan.partitions)
    schema_id = register(settings, topic, schema)
    work = [(settings.brokers, topic, plan, n, schema_id) for n in range(plan.partitions)]
    # not forked: librdkafka's threads would be missing in the child
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(3, plan.partitions), mp_context=spawn) as pool:
        for filled in [pool.submit(_fill, *arguments) for arguments in work]:
            filled.result()
    return time.monotonic() - began


def create(settings: Settings, topic: str, partitions: int) -> None:
    """Makes the topic anew."""
    admin = AdminClient({"bootstrap.servers": settings.brokers, "log_level": 4})
    if topic in admin.list_topics(timeout=10).topics:
        for deleted in admin.delete_topics([topic]).values():
            deleted.result(timeout=30)
        deadline = time.monotonic() + 30
        while topic in admin.list_topics(timeout=10).topics and time.monotonic() < deadline:
            time.sleep(0.1)
    for made in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
        made.result(timeout=30)


def delete(settings: Settings, topic: str) -> None:
    """Deletes the topic."""
    admin = AdminClient({"bootstrap.servers": settings.brokers, "log_level": 4})
    for deleted in admin.delete_topics([topic]).values():
        deleted.result(timeout=30)


def register(settings: Settings, topic: str, schema: dict[str, Any]) -> int:
    """Registers the schema of the topic's values, and returns its id."""
    request = urllib.request.Request(
        f"{settings.registry}/subjects/{topic}-value/versions",
        data=json.dumps({"schema": json.dumps(schema)}).encode(),
        headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return int(json.load(response)["id"])


def _fill(brokers: str, topic: str, plan: Plan, number: int, schema_id: int) -> None:
    events = part(plan, number)
    producer = Producer({"bootstrap.servers": brokers, **PRODUCER})
    for start in range(0, len(events.order), 50_000):
        rows = events.order[start : start + 50_000]
        encoded = avro(events, rows, schema_id).tobytes()
        keys = [device_name(device) for device in events.device[rows].tolist()]
        cut = events.truncated[rows].tolist()
        for index, key in enumerate(keys):
            end = (index + 1) * AVRO_BYTES - (3 if cut[index] else 0)
            value = encoded[index * AVRO_BYTES : end]
            producer.produce(topic, value, key, partition=number)
        producer.flush()
    assert producer.flush(60) == 0, "the topic could not be filled"
