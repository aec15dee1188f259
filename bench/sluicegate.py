"""Sluicegate as a contender: the contract in schemas/, as it is or bare."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import database
from bench.contender import Load, Run
from bench.processes import Program, start
from bench.settings import REPOSITORY, Settings

STREAM = "device_telemetry"


def contract(topic: str, bare: bool = False) -> dict[str, Any]:
    """The contract in schemas/ for another topic, without alerts; bare, without rules, labels and aggregates too."""
    schema = json.loads((REPOSITORY / "schemas" / f"{STREAM}.avsc").read_text())
    declared = schema["sluicegate"]
    declared["topic"] = topic
    # what the measurements were taken with; an alert may keep an aggregate of its own
    del declared["alerts"]
    if bare:
        for name in ("rules", "labels", "aggregates", "params"):
            del declared[name]
    return schema


@dataclass(frozen=True)
class Sluicegate:
    """`sluicegate consume` with some arguments, as so many members of one group."""

    name: str
    settings: Settings
    expected: Load
    schema: dict[str, Any]
    bare: bool = False
    arguments: tuple[str, ...] = ()
    members: int = 1
    prefilled: bool = False
    stream: str = STREAM
    kind: str = "sluicegate"

    @property
    def table(self) -> str:
        """A stream's table has its name."""
        return self.stream

    def load(self) -> Load:
        """The topic."""
        return self.expected

    def prepare(self, run: Run) -> None:
        """The contract and the tables."""
        folder = run.directory / "schemas"
        folder.mkdir(parents=True)
        (folder / f"{self.stream}.avsc").write_text(json.dumps(self.schema))
        self._command(run, "register")
        if not self.prefilled:
            self._command(run, "migrate")

    def start(self, run: Run) -> list[Program]:
        """One process a member."""
        command = [
            str(self.settings.binary), "consume", self.stream, "--group-prefix", run.group,
            "--log", "warn", *self.arguments,
        ]  # fmt: skip
        return [
            start(command, run.log, self._environment(run), run.directory)
            for _ in range(self.members)
        ]

    def problem(self, run: Run) -> str | None:
        """Labels, aggregates, dead letters and the ledger must agree with what was sent."""
        load = self.expected
        found = {
            "dead letters": (
                load.dead_letters,
                database.number(run.database, "select count(*) from dlq_events"),
            ),
        }
        if not self.bare and self.stream == STREAM:
            found["rows with the label"] = (
                load.degraded,
                database.number(run.database, f"select count(*) from {STREAM} where is_degraded"),
            )
            found["rows in aggregates"] = (
                load.rows,
                database.number(
                    run.database, "select coalesce(sum(count), 0) from agg_device_telemetry_minute"
                ),
            )
        if self.prefilled:
            return None
        wrong = [
            f"{what}: {there}, not {wanted}"
            for what, (wanted, there) in found.items()
            if there != wanted
        ]
        return "; ".join(wrong) or None

    def migrate_into(self, url: str, directory: Path) -> None:
        """Makes the tables in a database that is to be filled beforehand."""
        (directory / "schemas").mkdir(parents=True, exist_ok=True)
        (directory / "schemas" / f"{self.stream}.avsc").write_text(json.dumps(self.schema))
        self._command(Run("none", url, directory, self.expected), "migrate")

    def _command(self, run: Run, verb: str) -> None:
        done = subprocess.run(
            [str(self.settings.binary), verb, self.stream],
            env=self._environment(run),
            cwd=run.directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"sluicegate {verb} failed: {done.stderr.strip()[-500:]}")

    def _environment(self, run: Run) -> dict[str, str]:
        return {
            "KAFKA_BROKERS": self.settings.brokers,
            "SCHEMA_REGISTRY_URL": self.settings.registry,
            "DATABASE_URL": run.database,
            "SLUICEGATE_SCHEMAS": str(run.directory / "schemas"),
        }
