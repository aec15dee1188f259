"""Programs that are started and stopped, and what they and the services use, read from /proc."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
_STOP_SECONDS = 20.0


class Program:
    """A process in a session of its own, with all that it starts."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None
        # of it and of all that it waited for, known once it has ended
        self._ended_cpu = 0.0

    def has_ended(self) -> bool:
        """Whether it has; this also fetches its status."""
        if self.status is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid == self.pid:
                self.status = os.waitstatus_to_exitcode(status)
                self._ended_cpu = usage.ru_utime + usage.ru_stime
        return self.status is not None

    def cpu(self) -> float:
        """CPU seconds so far, of the whole tree."""
        if self.has_ended():
            return self._ended_cpu
        return cpu_of_tree(self.pid)

    def memory(self) -> int:
        """The most bytes that each process of the tree has had in memory, added up."""
        return 0 if self.has_ended() else sum(peak_memory(pid) for pid in tree(self.pid))

    def stop(self) -> None:
        """SIGTERM to the session, and SIGKILL to what is left of it later."""
        session = [self.pid, *tree(self.pid)]
        _signal_group(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while not self.has_ended() and time.monotonic() < deadline:
            time.sleep(0.02)
        _signal_group(self.pid, signal.SIGKILL)
        for pid in session:
            # a child that left the group, and only if the id is still one of this session
            if pid != self.pid and _session_of(pid) == self.pid:
                os.kill(pid, signal.SIGKILL)
        while not self.has_ended():
            time.sleep(0.02)


def start(command: list[str], log: Path, environment: dict[str, str], cwd: Path) -> Program:
    """Starts a command; its output goes to the log."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            cwd=cwd,
            start_new_session=True,
        )
    process.returncode = 0  # it is waited for here, not by subprocess
    return Program(process.pid)


def fork(work: Callable[[], None], log: Path) -> Program:
    """Runs a function in a process of its own, with all that was prepared in memory."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setsid()
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(output, 1)
            os.dup2(output, 2)
            work()
            status = 0
        except BaseException as error:  # noqa: BLE001 - it must not go on as a second benchmark
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)
    return Program(pid)


def tree(root: int) -> list[int]:
    """The process and all below it."""
    found, to_visit = [], [root]
    while to_visit:
        pid = to_visit.pop()
        found.append(pid)
        to_visit.extend(children(pid))
    return found


def children(pid: int) -> list[int]:
    """Those that a process started, through any of its threads."""
    found: list[int] = []
    for task in _names(Path(f"/proc/{pid}/task")):
        found.extend(int(child) for child in _read(f"/proc/{pid}/task/{task}/children").split())
    return found


def cpu_of_tree(root: int, without: Iterable[int] = ()) -> float:
    """CPU seconds of a process, of its children, and of those that it has waited for."""
    left_out = set(without)
    return sum(_cpu(pid) for pid in tree(root) if pid not in left_out)


def peak_memory(pid: int) -> int:
    """The most bytes of a process in memory, those that it shares included."""
    found = re.search(r"VmHWM:\s*(\d+) kB", _read(f"/proc/{pid}/status"))
    return int(found[1]) * 1024 if found else 0


def _cpu(pid: int) -> float:
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    # utime, stime, cutime, cstime
    return sum(map(int, fields[11:15])) / TICK if fields else 0.0


def _session_of(pid: int) -> int | None:
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[3]) if fields else None


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
