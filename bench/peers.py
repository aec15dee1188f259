"""What else a user could take: the folders of bench/peers, each with an `install` and a `run`."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench import database
from bench.contender import Load, Run
from bench.database import PLAIN_TABLE
from bench.processes import Program, start
from bench.settings import Settings

FOLDER = Path(__file__).resolve().parent / "peers"


@dataclass(frozen=True)
class Peer:
    """A program that reads BENCH_TOPIC and writes BENCH_TABLE until SIGTERM."""

    folder: Path
    settings: Settings
    expected: Load
    kind: str = "peer"
    table: str = PLAIN_TABLE

    @property
    def name(self) -> str:
        """As in the table of results."""
        return f"peer: {self.folder.name}"

    def load(self) -> Load:
        """The topic."""
        return self.expected

    def prepare(self, run: Run) -> None:
        """The table, without the label's column."""
        database.execute(run.database, database.CREATE_PLAIN_TABLE)

    def start(self, run: Run) -> list[Program]:
        """One program, whatever it starts."""
        environment = {
            "KAFKA_BROKERS": self.settings.brokers,
            "SCHEMA_REGISTRY_URL": self.settings.registry,
            "DATABASE_URL": run.database,
            "BENCH_TOPIC": run.load.topic,
            "BENCH_TABLE": self.table,
            "BENCH_GROUP": run.group,
            "BENCH_DIR": str(run.directory),
        }
        return [start([str(self.folder / "run")], run.log, environment, run.directory)]

    def problem(self, run: Run) -> str | None:
        """Nothing but the rows is written."""
        return None


def installed(settings: Settings, expected: Load) -> list[Peer]:
    """The peers that are wanted and could be installed; another is reported and left out."""
    found = []
    for folder in sorted(path.parent for path in FOLDER.glob("*/run") if os.access(path, os.X_OK)):
        peer = Peer(folder, settings, expected)
        if settings.wants(peer.name):
            done = subprocess.run([str(folder / "install")], stdout=subprocess.DEVNULL, check=False)
            if done.returncode == 0:
                found.append(peer)
            else:
                print(f"bench: {folder.name} could not be installed", file=sys.stderr)
    return found
