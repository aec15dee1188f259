"""One run of one contender: what it is measured by."""

import shutil
import time
from dataclasses import dataclass, field

from bench import database, host
from bench.contender import Contender, Run
from bench.processes import Program, cpu_of_tree
from bench.settings import Settings
from bench.watch import Watch

# a run that takes longer has failed, and so has one that writes nothing for a while
_TIMEOUT = 600.0
_IDLE_TIMEOUT = 60.0
_LOOK_EVERY = 0.02
_SAMPLE_EVERY = 0.2


@dataclass
class Result:
    """What one run showed. Rates are records a second, of which some may be duplicates or invalid."""

    contender: str
    kind: str
    records: int = 0
    # what is wrong with the run; its figures then do not count
    problem: str | None = None
    # from the first page that was written to the last commit, and from the start of the program
    active_seconds: float = 0.0
    whole_seconds: float = 0.0
    # CPU seconds from the first page on, and of the whole run
    program_cpu: float = 0.0
    program_cpu_whole: float = 0.0
    postgres_cpu: float = 0.0
    kafka_cpu: float = 0.0
    peak_memory: int = 0
    wal_bytes: int = 0
    # CPU seconds of a fixed piece of work just before, and cores that others took meanwhile
    calibration: float = 0.0
    other_cores: float = 0.0
    details: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Records a second while it is at work."""
        return self.records / self.active_seconds if self.active_seconds else 0.0


def measure(settings: Settings, contender: Contender, number: int) -> Result:
    """Runs a contender once. What goes wrong is in the result: the others still have their turn."""
    result = Result(contender.name, contender.kind, contender.load().records)
    run = Run(
        group=f"bench-{int(time.time())}-{number}",
        database=database.fresh(settings, "bench_run", getattr(contender, "template", "template1")),
        directory=settings.scratch / f"run-{number}",
        load=contender.load(),
    )
    shutil.rmtree(run.directory, ignore_errors=True)
    run.directory.mkdir(parents=True)
    programs: list[Program] = []
    try:
        contender.prepare(run)
        with Watch(run.database, contender.table, run.load.rows, run.load.dead_letters) as watch:
            _measure(settings, contender, run, watch, programs, result)
        result.problem = _contents_problem(contender, run)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this contender's
        result.problem = f"{type(error).__name__}: {error}; {_end_of_log(run)}"
    finally:
        for program in programs:
            program.stop()
    shutil.rmtree(run.directory, ignore_errors=True)
    return result


def _measure(
    settings: Settings,
    contender: Contender,
    run: Run,
    watch: Watch,
    programs: list[Program],
    result: Result,
) -> None:
    services = host.services(settings)
    result.calibration = host.calibration()
    database.execute(run.database, "checkpoint")
    lsn = "select pg_current_wal_lsn() - '0/0'::pg_lsn"
    wal_before = database.number(run.database, lsn)
    load_before = host.Load.now(services)
    kafka_before = cpu_of_tree(services.kafka)
    postgres_before = cpu_of_tree(services.postgres, [watch.pid])
    began = time.time()
    programs.extend(contender.start(run))
    program_before = _wait(watch, programs, result)
    load_after = host.Load.now(services)
    result.program_cpu_whole = sum(program.cpu() for program in programs)
    result.program_cpu = result.program_cpu_whole - program_before
    result.postgres_cpu = cpu_of_tree(services.postgres, [watch.pid]) - postgres_before
    result.kafka_cpu = cpu_of_tree(services.kafka) - kafka_before
    result.other_cores = load_after.others_since(load_before, result.program_cpu_whole)
    result.wal_bytes = database.number(run.database, lsn) - wal_before
    if watch.first_page is not None:
        last = watch.last_commit()
        result.active_seconds = last - watch.first_page
        result.whole_seconds = last - began


def _wait(watch: Watch, programs: list[Program], result: Result) -> float:
    """Until all rows are there; returns the programs' CPU seconds at the first page."""
    deadline = time.monotonic() + _TIMEOUT
    sampled_at = cpu_at_first_page = 0.0
    is_started = False
    while not watch.is_complete():
        now = time.monotonic()
        ended = all([program.has_ended() for program in programs])
        if watch.first_page is not None and not is_started:
            is_started = True
            cpu_at_first_page = sum(program.cpu() for program in programs)
        if now - sampled_at > _SAMPLE_EVERY:
            sampled_at = now
            _sample_memory(programs, result)
        if ended:
            if watch.new_rows() >= watch.rows:
                break
            codes = [program.status for program in programs]
            raise RuntimeError(f"it ended with {codes}: {watch.progress()}")
        if now > deadline or now - watch.grew_at > _IDLE_TIMEOUT:
            raise TimeoutError(watch.progress())
        time.sleep(_LOOK_EVERY if not is_started else 2 * _LOOK_EVERY)
    _sample_memory(programs, result)
    return cpu_at_first_page


def _sample_memory(programs: list[Program], result: Result) -> None:
    memory = sum(program.memory() for program in programs)
    result.peak_memory = max(result.peak_memory, memory)


def _contents_problem(contender: Contender, run: Run) -> str | None:
    """A contender that wrote something else is wrong, not fast."""
    if run.load.checksum:
        there = database.contents_of(run.database, contender.table)
        if there.rows != run.load.rows:
            return f"wrong contents: {there.rows} rows, not {run.load.rows}"
        if there.checksum != run.load.checksum:
            return "wrong contents: the rows differ from what was sent"
    problem = contender.problem(run)
    return f"wrong contents: {problem}" if problem else None


def _end_of_log(run: Run) -> str:
    try:
        return "its log ends with: " + run.log.read_text(errors="replace")[-600:].strip()
    except OSError:
        return "it has no log"
