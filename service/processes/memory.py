"""Memory of processes, and what is left of the machine's or the container's."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")

FIRST_TO_GO = 500
"""Added to the badness of a process that may be killed before others, of 1000.

Source: https://docs.kernel.org/filesystems/proc.html, oom_score_adj.
"""


def own_bytes(pids: Iterable[int], proc: Path = PROC) -> int:
    """Return the memory that processes hold and no other process or file shares."""
    return sum(_field(proc / str(pid) / "status", "RssAnon:") or 0 for pid in pids)


def available_bytes(proc: Path = PROC, cgroup: Path = CGROUP) -> int | None:
    """Return the memory that new processes can get, of the machine and of the container.

    Caches of files count as available, since the system gives them up first. None where the system
    does not say.

    Args:
        proc: the folder of process information.
        cgroup: the folder of the container's control group, version 2.
    """
    found = [_field(proc / "meminfo", "MemAvailable:"), _left_of_container(cgroup)]
    return min((each for each in found if each is not None), default=None)


def volunteer(pid: int, *, goes_first: bool, proc: Path = PROC) -> None:
    """Say whether a process is to be killed before others where memory runs out.

    Args:
        pid: of the process.
        goes_first: otherwise it is treated as this process is.
        proc: the folder of process information.
    """
    with suppress(OSError):  # it may have ended, or the system may not allow it
        own = int((proc / "self" / "oom_score_adj").read_text())
        score = min(own + FIRST_TO_GO, 1000) if goes_first else own
        (proc / str(pid) / "oom_score_adj").write_text(str(score))


def _left_of_container(cgroup: Path) -> int | None:
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
    except OSError:
        return None
    if limit == "max":
        return None
    reclaimable = _field(cgroup / "memory.stat", "inactive_file", unit=1) or 0
    return int(limit) - used + reclaimable


def _field(path: Path, name: str, unit: int = 1024) -> int | None:
    """Return a file's field in bytes; None if it has none."""
    with suppress(OSError):
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] == [name]:
                return int(words[1]) * unit
    return None
