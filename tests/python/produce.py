"""Sends events as any Python program would, with Confluent's client and Avro serializer.

    produce.py BROKERS REGISTRY TOPIC SCHEMA <EVENTS

SCHEMA is a file with an Avro schema, and EVENTS are JSON objects, one a line.
"""

import json
import sys

from confluent_kafka import SerializingProducer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import StringSerializer

brokers, registry, topic, schema = sys.argv[1:]
with open(schema, encoding="utf-8") as file:
    value_serializer = AvroSerializer(SchemaRegistryClient({"url": registry}), file.read())

failures = []
producer = SerializingProducer(
    {
        "bootstrap.servers": brokers,
        "key.serializer": StringSerializer(),
        "value.serializer": value_serializer,
    }
)
for line in sys.stdin:
    event = json.loads(line)
    producer.produce(
        topic,
        key=event["device"],
        value=event,
        headers=[("source", b"python"), ("source", None)],
        on_delivery=lambda error, _: failures.append(error) if error else None,
    )
producer.flush()
if failures:
    sys.exit("\n".join(map(str, failures)))
