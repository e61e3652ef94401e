"""Processor time and memory of a running server's processes, from Linux's proc filesystem."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


def family_of(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in PROC.glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children[parent].append(int(entry.name))
    family = [pid]
    for member in family:
        family += children[member]
    return family


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time of all living threads, seconds; to the nanosecond, unlike ticks.

    Source: https://docs.kernel.org/scheduler/sched-stats.html, the first number of ``schedstat``.
    """
    nanoseconds = 0
    for pid in pids:
        for task in (PROC / str(pid) / "task").glob("*/schedstat"):
            try:
                nanoseconds += int(task.read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return nanoseconds / 1e9


@dataclass(frozen=True)
class ThreadSeconds:
    """Processor time of one of our processes' threads so far, seconds.

    Attributes:
        loop: of the first thread, which runs the event loop.
        others: that decode, or give a device its work.
    """

    loop: float
    others: float

    @property
    def all(self) -> float:
        """Processor time of the whole process."""
        return self.loop + self.others


def thread_seconds(pid: int) -> ThreadSeconds:
    """Return the processor time of a process's threads, by their roles."""
    seconds = {True: 0.0, False: 0.0}  # the first thread's, and the others'
    for thread in (PROC / str(pid) / "task").iterdir():
        try:
            nanoseconds = int((thread / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        seconds[int(thread.name) == pid] += nanoseconds / 1e9
    return ThreadSeconds(loop=seconds[True], others=seconds[False])


def core_busy_seconds(core: int) -> float:
    """Return the time that a core has worked since the machine started, to its clock's tick.

    Source: https://man7.org/linux/man-pages/man5/proc_stat.5.html: user, nice, system, idle,
    iowait, irq, softirq and steal ticks of ``cpuN``.
    """
    for line in (PROC / "stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _, _, irq, softirq, steal = map(int, ticks[:8])
            busy = user + nice + system + irq + softirq + steal
            return busy / os.sysconf("SC_CLK_TCK")
    raise LookupError(f"there is no core {core}")


def peak_resident_bytes(pid: int) -> int:
    """Return the peak of a process's resident memory."""
    return _status_bytes(pid, "VmHWM")


def member_running(pids: Iterable[int], module: str) -> int:
    """Return the process that was started with a module.

    Raises:
        LookupError: if there is none, or more than one.
    """
    found = members_running(pids, module)
    if len(found) != 1:
        raise LookupError(f"{len(found)} processes run {module}, not one")
    return found[0]


def members_running(pids: Iterable[int], module: str) -> list[int]:
    """Return the processes that were started with a module."""
    return [pid for pid in pids if module in _command_line(pid)]


def pin(pids: Iterable[int], core: int) -> None:
    """Restrict all present threads of processes to one core."""
    for pid in pids:
        for task in (PROC / str(pid) / "task").glob("[0-9]*"):
            os.sched_setaffinity(int(task.name), {core})


def _command_line(pid: int) -> list[str]:
    return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")


def _status_bytes(pid: int, field: str) -> int:
    for line in (PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"/proc/{pid}/status has no {field}")
