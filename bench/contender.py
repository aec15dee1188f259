"""What all contenders have in common."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.processes import Program


@dataclass(frozen=True)
class Load:
    """A topic, and what a table must hold after it."""

    topic: str
    partitions: int
    records: int
    rows: int
    checksum: int
    degraded: int = 0
    dead_letters: int = 0


@dataclass(frozen=True)
class Run:
    """One run of one contender: a database of its own, a group of its own, and a directory for its files."""

    group: str
    database: str
    directory: Path
    load: Load
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "log", self.directory / "log")


class Contender(Protocol):
    """A way to get a topic's events into a table."""

    @property
    def name(self) -> str:
        """As in the table of results."""

    @property
    def kind(self) -> str:
        """limit, sluicegate or peer."""

    @property
    def table(self) -> str:
        """Where the rows go."""

    def load(self) -> Load:
        """What it is given to do."""

    def prepare(self, run: Run) -> None:
        """Before the clock starts: its tables."""

    def start(self, run: Run) -> list[Program]:
        """Starts it."""

    def problem(self, run: Run) -> str | None:
        """What is wrong with what it wrote besides the rows."""
