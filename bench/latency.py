"""From append to committed row, at a fixed rate."""

import multiprocessing
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from confluent_kafka import Producer

from bench import database, topic
from bench.contender import Contender, Load, Run
from bench.encode import avro
from bench.events import START_MS, Plan, device_name, part
from bench.processes import Program
from bench.settings import Settings
from bench.sluicegate import Sluicegate, contract
from bench.topic import PRODUCER
from bench.watch import Watch

RATE = 5_000
TOPIC = "bench.latency"
# sent first, to see that the contender is up; then this long without counting
PROBES = 300
WARM_UP_SECONDS = 2
_START_SECONDS = 90.0
_TAIL_SECONDS = 15.0
_TURN = 0.005


@dataclass
class Latency:
    """Milliseconds from handing a record to the producer to the commit of its row."""

    contender: str
    rows: int = 0
    missing: int = 0
    p50: float = 0.0
    p99: float = 0.0
    worst: float = 0.0
    problem: str | None = None


def all_of(settings: Settings, contenders: list[Contender]) -> list[dict[str, Any]]:
    """Each program that writes a clean topic, in turn."""
    measured = []
    names = ("sluicegate", "sluicegate, bare", "peer")
    chosen = [c for c in contenders if c.name in names or c.kind in names[2:]]
    turns = settings.repeats if settings.latency_seconds else 0
    for turn in range(turns):
        for number, contender in enumerate(chosen):
            found = _latency(settings, contender, turn * len(chosen) + number)
            text = found.problem or f"p50 {found.p50:.0f} ms, p99 {found.p99:.0f} ms"
            print(f"bench: latency {turn + 1}/{turns} {found.contender}: {text}", file=sys.stderr)
            measured.append(asdict(found))
    return measured


def _latency(settings: Settings, contender: Contender, number: int) -> Latency:
    found = Latency(contender.name)
    name = f"{TOPIC}-{number}"
    schema = contract(name, bare=getattr(contender, "bare", False))
    topic.create(settings, name, 3)
    schema_id = topic.register(settings, name, schema)
    records = PROBES + RATE * (WARM_UP_SECONDS + settings.latency_seconds)
    run = Run(
        group=f"bench-latency-{int(time.time())}-{number}",
        database=database.fresh(settings, "bench_run"),
        directory=settings.scratch / f"latency-{number}",
        load=Load(name, 3, records, records, 0),
    )
    shutil.rmtree(run.directory, ignore_errors=True)
    run.directory.mkdir(parents=True)
    if isinstance(contender, Sluicegate):
        contender = Sluicegate(contender.name, settings, run.load, schema, bare=contender.bare)
    programs: list[Program] = []
    try:
        contender.prepare(run)
        programs.extend(contender.start(run))
        with Watch(run.database, contender.table, records) as watch:
            _send_and_wait(settings, run, schema_id, watch)
        _read_times(run, contender.table, found)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this contender's
        found.problem = f"{type(error).__name__}: {error}"
    finally:
        for program in programs:
            program.stop()
        topic.delete(settings, name)
    shutil.rmtree(run.directory, ignore_errors=True)
    return found


def _send_and_wait(settings: Settings, run: Run, schema_id: int, watch: Watch) -> None:
    arguments = (settings.brokers, run.load.topic, run.load.records, schema_id)
    context = multiprocessing.get_context("spawn")
    go = context.Event()
    sender = context.Process(target=_send, args=(*arguments, go), daemon=True)
    sender.start()
    try:
        _wait_for(watch, PROBES, _START_SECONDS)
        go.set()
        sender.join()
        if sender.exitcode != 0:
            raise RuntimeError("the producer failed")
        _wait_for(watch, run.load.rows, _TAIL_SECONDS)
    finally:
        sender.kill()


def _wait_for(watch: Watch, rows: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (there := watch.new_rows()) < rows:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{there} of {rows} rows after {seconds:.0f} s")
        time.sleep(0.1)


def _send(brokers: str, name: str, records: int, schema_id: int, go: Any) -> None:
    """Sends events whose `ts` is the moment of sending: some at once as probes, the others evenly."""
    producer = Producer({"bootstrap.servers": brokers, **PRODUCER, "linger.ms": 5})
    partitions = [part(Plan(records, duplicates=0.0), number) for number in range(3)]

    def send(start: int, end: int) -> None:
        for index in range(start, end):
            number, row = index % 3, index // 3
            events = partitions[number]
            events.ts[row] = time.time_ns() // 1_000_000
            value = avro(events, events.order[row : row + 1], schema_id).tobytes()
            producer.produce(name, value, device_name(int(events.device[row])), partition=number)

    send(0, PROBES)
    producer.flush()
    go.wait()
    began, sent = time.monotonic(), PROBES
    while sent < records:
        due = min(PROBES + int((time.monotonic() - began) * RATE), records)
        send(sent, due)
        sent = due
        producer.poll(_TURN)
    producer.flush()


def _read_times(run: Run, table: str, found: Latency) -> None:
    # probes were sent long before; the rest of the first seconds is the warm-up
    query = f"""
        with rows as (
            select ts, extract(epoch from pg_xact_commit_timestamp(xmin) - ts) * 1000 as ms,
                row_number() over (order by ts) as place
            from {table} where ts > to_timestamp({START_MS // 1000 + 1})
        )
        select count(*), percentile_cont(array[0.5, 0.99, 1.0]) within group (order by ms)
        from rows where place > {PROBES + RATE * WARM_UP_SECONDS}"""
    with psycopg.connect(run.database) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    found.rows = row[0]
    found.missing = run.load.rows - PROBES - RATE * WARM_UP_SECONDS - found.rows
    found.p50, found.p99, found.worst = (float(value) for value in row[1])
