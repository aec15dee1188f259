"""The machine: what it is, how fast it is just now, and what else runs on it."""

import hashlib
import os
import platform
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench.processes import TICK, cpu_of_tree
from bench.settings import Settings

_CALIBRATION = bytes(1_000_000)


def calibration() -> float:
    """CPU seconds of a piece of work that is always the same: how fast the machine is just now."""
    began = time.process_time()
    for _ in range(40):
        hashlib.sha256(_CALIBRATION).digest()
    total = 0
    for number in range(1_000_000):
        total += number & 7
    return time.process_time() - began


@dataclass(frozen=True)
class Services:
    """The processes of the services."""

    postgres: int
    kafka: int
    registry: int


def services(settings: Settings) -> Services:
    """Those that scripts/services started."""
    pids = [
        int((settings.state / "run" / f"{name}.pid").read_text())
        for name in ("postgres", "kafka", "registry")
    ]
    return Services(*pids)


@dataclass(frozen=True)
class Load:
    """CPU seconds since the machine, or this process, started."""

    at: float
    busy: float
    ours: float

    @staticmethod
    def now(services: Services) -> "Load":
        """So far."""
        numbers = [
            int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
        ]
        # user, nice, system, idle, iowait, irq, softirq, steal: all but the two in the middle
        busy = (sum(numbers) - numbers[3] - numbers[4]) / TICK
        pids = (services.postgres, services.kafka, services.registry)
        return Load(time.monotonic(), busy, sum(map(cpu_of_tree, pids)) + _own())

    def others_since(self, before: "Load", contender: float) -> float:
        """How many cores others took, or the host did not give."""
        taken = (self.busy - before.busy) - (self.ours - before.ours) - contender
        return max(0.0, taken / max(0.001, self.at - before.at))


def describe(settings: Settings) -> dict[str, str]:
    """The machine and the versions."""
    cpus = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", cpus)
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    return {
        "machine": f"{os.cpu_count()} cores, {model[1] if model else platform.machine()}, "
        f"{round(int(memory[1]) / 2**20) if memory else '?'} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "sluicegate": _first_line([str(settings.binary), "--version"]) + _commit(),
        "Python": platform.python_version(),
        "Java": _first_line(["java", "-version"]),
    }


def postgres_settings(url: str) -> dict[str, str]:
    """Postgres' version, and the settings that matter."""
    names = (
        "server_version", "shared_buffers", "max_wal_size", "fsync", "synchronous_commit",
        "full_page_writes", "autovacuum", "track_commit_timestamp",
    )  # fmt: skip
    with psycopg.connect(url) as connection:
        shown = {name: connection.execute(f"show {name}").fetchone() for name in names}
    values = {name: row[0] if row else "" for name, row in shown.items()}
    version = values.pop("server_version")
    return {
        "Postgres": f"{version}; " + ", ".join(f"{name} {value}" for name, value in values.items())
    }


def _own() -> float:
    times = os.times()
    return times.user + times.system


def _commit() -> str:
    described = _first_line(["git", "describe", "--always", "--dirty"])
    return f", commit {described}" if described else ""


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return ""
    return (done.stdout or done.stderr).partition("\n")[0].strip()
