"""Where the services are, and what is measured."""

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "performance.md"
FIGURES = REPOSITORY / "docs" / "performance"


@dataclass(frozen=True)
class Settings:
    """One invocation's settings."""

    rows: int
    repeats: int
    latency_seconds: int
    only: tuple[str, ...]
    binary: Path
    brokers: str
    registry: str
    database: str
    scratch: Path
    state: Path

    def wants(self, name: str) -> bool:
        """Whether a contender of this name is to be measured: all, or those that begin with a word of --only."""
        return not self.only or name.startswith(self.only)


def from_environment(
    rows: int, repeats: int, latency_seconds: int, only: tuple[str, ...]
) -> Settings:
    """The settings, with the addresses that scripts/bench puts into the environment."""
    state = Path(os.environ["SLUICEGATE_STATE"])
    scratch = state / "tmp" / "bench"
    scratch.mkdir(parents=True, exist_ok=True)
    return Settings(
        rows=rows,
        repeats=repeats,
        latency_seconds=latency_seconds,
        only=only,
        binary=Path(os.environ["SLUICEGATE"]).resolve(),
        brokers=os.environ["KAFKA_BROKERS"],
        registry=os.environ["SCHEMA_REGISTRY_URL"],
        database=os.environ["DATABASE_URL"],
        scratch=scratch,
        state=state,
    )
