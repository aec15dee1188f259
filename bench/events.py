"""Made-up DeviceTelemetry events: the same for the same plan, so that what was sent can be told from what landed."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

KPIS = ("temperature", "humidity", "pressure", "vibration")
# what is above is degraded, as params.limits of the contract says
LIMITS = np.array([80.0, 70.0, 1050.0, 5.0])
ZONES = 20
DEVICES = 999
START_MS = 1_767_225_600_000  # 2026-01-01
RESENT_WITHIN = 5_000  # rows of the whole topic
IMPOSSIBLE = 2e6  # breaks the rule value_is_plausible


@dataclass(frozen=True)
class Plan:
    """A topic's worth of events. Every tenth invalid one is truncated, the others break a rule."""

    records: int
    partitions: int = 3
    duplicates: float = 0.01
    invalid: float = 0.0
    seed: int = 7


@dataclass(frozen=True)
class Part:
    """The events of one partition; `order` says which is sent when, and duplicates are in it twice."""

    ids: Bytes
    device: npt.NDArray[np.int64]
    ts: npt.NDArray[np.int64]
    kpi: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    invalid: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    order: npt.NDArray[np.int64]

    @property
    def zone(self) -> npt.NDArray[np.int64]:
        """A device's zone."""
        return self.device % ZONES

    @property
    def degraded(self) -> npt.NDArray[np.bool_]:
        """What the contract's label says."""
        return self.value > LIMITS[self.kpi]


@lru_cache(maxsize=16)
def part(plan: Plan, number: int) -> Part:
    """The events of a partition."""
    chance = np.random.default_rng([plan.seed, number])
    records = len(range(number, plan.records, plan.partitions))
    resent = round(records * plan.duplicates)
    distinct = records - resent
    kpi = chance.integers(0, len(KPIS), distinct)
    value = LIMITS[kpi] * (0.9 + 0.06 * chance.standard_normal(distinct))
    invalid = chance.random(distinct) < plan.invalid
    truncated = invalid & (np.cumsum(invalid) % 10 == 0)
    value[invalid] = IMPOSSIBLE
    return Part(
        ids=_uuids(chance, distinct),
        device=chance.integers(0, DEVICES // plan.partitions, distinct) * plan.partitions + number,
        ts=START_MS + np.arange(distinct) * plan.partitions + number,
        kpi=kpi,
        value=np.round(value, 3),
        invalid=invalid,
        truncated=truncated,
        order=_order(chance, ~invalid, resent, RESENT_WITHIN // plan.partitions),
    )


def parts(plan: Plan) -> list[Part]:
    """The events of all partitions."""
    return [part(plan, number) for number in range(plan.partitions)]


def device_name(number: int) -> str:
    """The key of a device's events."""
    return f"device-{number:05d}"


def _uuids(chance: np.random.Generator, count: int) -> Bytes:
    """Random ones, which hit an index everywhere: nobody is helped by the order of the ids."""
    ids = chance.integers(0, 256, (count, 16), dtype=np.uint8)
    ids[:, 6] = ids[:, 6] & 0x0F | 0x40
    ids[:, 8] = ids[:, 8] & 0x3F | 0x80
    return ids


def _order(
    chance: np.random.Generator, valid: npt.NDArray[np.bool_], resent: int, within: int
) -> npt.NDArray[np.int64]:
    """Every event in turn, and some valid ones once more a little later."""
    every = np.arange(len(valid))
    again = chance.choice(valid.nonzero()[0], resent, replace=False)
    place = again + chance.integers(1, within + 1, resent) + 0.5
    events = np.concatenate([every, again])
    return events[np.argsort(np.concatenate([every, place]), kind="stable")]


def ranks(ids: Bytes) -> npt.NDArray[np.int64]:
    """The place of each id in their order."""
    high, low = ids.view(">u8").T
    rank = np.empty(len(ids), dtype=np.int64)
    rank[np.lexsort((low, high))] = np.arange(len(rank))
    return rank
