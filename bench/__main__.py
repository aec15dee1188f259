"""What is measured: see scripts/bench."""

import argparse
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import compare, growth, report, sweeps, writes
from bench.settings import FIGURES, REPOSITORY, Settings, from_environment

OUTPUT = REPOSITORY / "target" / "bench"


def main() -> None:
    """Measures, keeps the raw figures as JSON, prints the table, and where it is wanted, writes the page."""
    arguments = _arguments()
    # what was started is stopped on SIGTERM too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if arguments.what != "report":
        rows = arguments.rows or ROWS.get(arguments.what, 1_000_000)
        settings = from_environment(
            rows, arguments.repeats, arguments.latency, tuple(arguments.only)
        )
        figures = MEASURE[arguments.what](settings)
        _keep(arguments.what, figures, arguments.write)
        print(report.tables({arguments.what: figures}))
    if arguments.write or arguments.what == "report":
        report.write_page()


MEASURE: dict[str, Callable[[Settings], dict[str, Any]]] = {
    "compare": compare.compare,
    "sink-tasks": sweeps.sink_tasks,
    "batch-rows": sweeps.batch_rows,
    "growth": growth.growth,
    "writes": writes.writes,
}

# where it is not a million
ROWS = {"writes": writes.ROWS}


def _keep(what: str, figures: dict[str, Any], write: bool) -> None:
    folder: Path = FIGURES if write else OUTPUT
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{what}.json").write_text(json.dumps(figures, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "what", nargs="?", default="compare", choices=[*MEASURE, "report"], help="default: compare"
    )
    parser.add_argument("--rows", type=int, help="of a topic, 1,000,000; of each write, 300,000")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each contender")
    parser.add_argument(
        "--latency", type=int, default=20, metavar="SECONDS", help="at 5,000 records/s; 0: none"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="contenders that begin so"
    )
    parser.add_argument(
        "--write", action="store_true", help="into docs/performance, and the page from it"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
