"""The limit on the other side: reading the topic and throwing it away."""

import json
import time
from dataclasses import dataclass

from confluent_kafka import Consumer, TopicPartition

from bench import host
from bench.contender import Load
from bench.measure import Result
from bench.processes import fork
from bench.settings import Settings

NAME = "limit: read the topic, throw it away"


@dataclass(frozen=True)
class KafkaRead:
    """confluent-kafka, 10,000 records a call, in one process."""

    settings: Settings
    expected: Load

    def measure(self) -> Result:
        """Reads the topic once."""
        result = Result(NAME, "limit", self.expected.records, calibration=host.calibration())
        log = self.settings.scratch / "kafka-read"
        log.unlink(missing_ok=True)
        services = host.services(self.settings)
        before = host.Load.now(services)
        program = fork(lambda: _read(self.settings.brokers, self.expected), log)
        while not program.has_ended():
            result.peak_memory = max(result.peak_memory, program.memory())
            time.sleep(0.05)
        result.program_cpu = result.program_cpu_whole = program.cpu()
        result.other_cores = host.Load.now(services).others_since(before, program.cpu())
        text = log.read_text()
        if program.status != 0:
            result.problem = text[-500:]
            return result
        result.active_seconds, result.whole_seconds = json.loads(text)
        return result


def _read(brokers: str, load: Load) -> None:
    began = time.monotonic()
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "bench-read",
            "enable.auto.commit": False,
            "fetch.message.max.bytes": 4_194_304,
            "queued.max.messages.kbytes": 262_144,
            "fetch.queue.backoff.ms": 5,
        }
    )
    consumer.assign([TopicPartition(load.topic, n, 0) for n in range(load.partitions)])
    first, left = 0.0, load.records
    while left > 0:
        records = consumer.consume(10_000, timeout=30)
        if not records:
            raise TimeoutError(f"{left} records did not come")
        first = first or time.monotonic()
        left -= len(records)
    now = time.monotonic()
    print(json.dumps([now - first, now - began]), flush=True)
