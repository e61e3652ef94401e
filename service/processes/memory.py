"""Memory of processes, and what is left of the machine's or the container's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")

GROUP_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}
"""Files of a control group's limit and use, and the field of its memory.stat that counts caches of
files, by version.

Source: https://docs.kernel.org/admin-guide/cgroup-v1/memory.html and cgroup-v2.html.
"""

FIRST_TO_GO = 500
"""Added to the badness of a process that may be killed before others, of 1000.

Source: https://docs.kernel.org/filesystems/proc.html, oom_score_adj.
"""


def own_bytes(pids: Iterable[int], proc: Path = PROC) -> int:
    """Return the memory that processes hold and no other process or file shares."""
    return sum(_field(proc / str(pid) / "status", "RssAnon:") or 0 for pid in pids)


def available_bytes(proc: Path = PROC, cgroup: Path = CGROUP) -> int | None:
    """Return the memory that new processes can get, of the machine and of the container or unit.

    Caches of files count as available, since the system gives them up first. None where the system
    does not say.

    Args:
        proc: the folder of process information.
        cgroup: the folder of the control groups.
    """
    found = [_field(proc / "meminfo", "MemAvailable:"), *_left_of_groups(proc, cgroup)]
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


def _left_of_groups(proc: Path, cgroup: Path) -> Iterator[int | None]:
    """Yield what is left of this process's control group and of each one around it."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        # In a container the name may be the host's: then its folder is missing, and the root is it.
        group = Path(name.lstrip("/"))
        for each in (group, *group.parents):
            if not controllers:
                yield _left_of_group(cgroup / each, version=2)
            elif "memory" in controllers.split(","):
                yield _left_of_group(cgroup / "memory" / each, version=1)


def _left_of_group(group: Path, version: int) -> int | None:
    limit_name, used_name, cache_name = GROUP_FILES[version]
    try:
        limit = (group / limit_name).read_text().strip()
        used = int((group / used_name).read_text())
    except OSError:
        return None
    if limit == "max":
        return None
    reclaimable = _field(group / "memory.stat", cache_name, unit=1) or 0
    return int(limit) - used + reclaimable


def _field(path: Path, name: str, unit: int = 1024) -> int | None:
    """Return a file's field in bytes; None if it has none."""
    with suppress(OSError):
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] == [name]:
                return int(words[1]) * unit
    return None
