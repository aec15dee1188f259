"""`make bench`: everybody's rows a second, each so often, in turn."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from typing import Any

from bench import database, host, latency, peers, topic
from bench.contender import Contender, Load
from bench.events import Plan, parts
from bench.kafka_read import NAME as KAFKA_READ
from bench.kafka_read import KafkaRead
from bench.limits import COPY_WAY, WAYS, Limit
from bench.measure import Result, measure
from bench.settings import Settings
from bench.sluicegate import Sluicegate, contract

# more than this many cores taken by others, and the run is made once more; not always, for
# a machine may never be quiet
NOISY = 0.3
AGAIN_AT_MOST = 6
INVALID_SHARES = (0.001, 0.01, 0.1)


def compare(settings: Settings) -> dict[str, Any]:
    """All contenders, one after the other, and that so often as repeats are wanted."""
    clean = load(settings, "bench.clean", Plan(settings.rows))
    contenders = [*_limits(settings, clean), *_sluicegates(settings, clean)]
    contenders += peers.installed(settings, clean)
    steps: list[Callable[[int], Result]] = [partial(measure, settings, c) for c in contenders]
    if settings.wants(KAFKA_READ):
        read = KafkaRead(settings, clean)
        steps.insert(0, lambda _: read.measure())
    results = repeat(settings, steps)
    return figures(settings, results) | {"latency": latency.all_of(settings, contenders)}


def load(settings: Settings, name: str, plan: Plan) -> Load:
    """Fills a topic, and says what must come of it."""
    events = parts(plan)
    wanted = database.reference(settings, plan)
    seconds = topic.preload(settings, name, plan, contract(name))
    say(f"{name}: {plan.records:,} records in {seconds:.1f} s")
    return Load(
        topic=name,
        partitions=plan.partitions,
        records=plan.records,
        rows=wanted.rows,
        checksum=wanted.checksum,
        degraded=sum(int((part.degraded & ~part.invalid).sum()) for part in events),
        dead_letters=sum(int(part.invalid[part.order].sum()) for part in events),
    )


def repeat(settings: Settings, steps: Iterable[Callable[[int], Result]]) -> list[Result]:
    """Each step in turn, and all of that again: what slows the machine for a while, slows all."""
    results, number, again_left = [], 0, AGAIN_AT_MOST
    steps = list(steps)
    for turn in range(settings.repeats):
        for step in steps:
            number += 2
            result = step(number)
            if again_left and result.problem is None and result.other_cores > NOISY:
                again_left -= 1
                say(f"{result.contender}: {result.other_cores:.1f} cores taken by others, again")
                again = step(number + 1)
                if again.problem is None and again.other_cores < result.other_cores:
                    result = again
            say(
                f"{turn + 1}/{settings.repeats} {result.contender}: "
                + (result.problem or f"{result.rate:,.0f} records/s")
            )
            results.append(result)
    return results


def figures(settings: Settings, results: list[Result]) -> dict[str, Any]:
    """The raw figures, with what they were measured on."""
    return {
        "host": host.describe(settings) | host.postgres_settings(settings.database),
        "rows": settings.rows,
        "repeats": settings.repeats,
        "results": [asdict(result) for result in results],
    }


def say(text: str) -> None:
    """A line of progress."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _limits(settings: Settings, clean: Load) -> list[Contender]:
    plan = Plan(clean.records)
    contenders: list[Contender] = []
    for way in WAYS:
        for connections in (1, 2, 3):
            expected = clean
            if way == COPY_WAY:
                expected = Load(**(asdict(clean) | {"records": clean.rows}))
            contenders.append(Limit(way, connections, plan, expected))
    return [each for each in contenders if settings.wants(each.name)]


def _sluicegates(settings: Settings, clean: Load) -> list[Contender]:
    contenders: list[Contender] = [
        Sluicegate("sluicegate", settings, clean, contract(clean.topic)),
        Sluicegate(
            "sluicegate, bare", settings, clean, contract(clean.topic, bare=True), bare=True
        ),
    ]
    contenders = [each for each in contenders if settings.wants(each.name)]
    for share in INVALID_SHARES:
        name = f"sluicegate, {share * 100:g} % invalid"
        if settings.wants(name):
            dirty = load(
                settings, f"bench.invalid-{share * 100:g}", Plan(clean.records, invalid=share)
            )
            contenders.append(Sluicegate(name, settings, dirty, contract(dirty.topic)))
    return contenders
