from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from service.processes.memory import available_bytes, own_bytes, volunteer

MIB = 2**20


def written(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_dot_", ".")).write_text(text)
    return folder


def test_a_process_owns_what_it_shares_with_no_other() -> None:
    before = own_bytes([os.getpid()])
    # Not of memory that was freed before, which the process still holds.
    with mmap.mmap(-1, 32 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        block.write(bytes(32 * MIB))
        assert own_bytes([os.getpid()]) > before + 24 * MIB


def test_a_process_that_has_ended_owns_nothing() -> None:
    assert own_bytes([2**22 + 1]) == 0


def machine(tmp_path: Path, groups: str) -> Path:
    proc = written(tmp_path / "proc", meminfo="MemTotal: 9 kB\nMemAvailable:    4096 kB\n")
    written(proc / "self", cgroup=groups)
    return proc


def test_a_container_may_have_less_than_the_machine(tmp_path: Path) -> None:
    proc = machine(tmp_path, "0::/\n")
    assert available_bytes(proc, tmp_path / "none") == 4 * MIB
    group = {"memory_dot_max": str(5 * MIB), "memory_dot_current": str(4 * MIB)}
    cgroup = written(tmp_path / "group", **group, memory_dot_stat=f"anon 7\ninactive_file {MIB}\n")
    assert available_bytes(proc, cgroup) == 2 * MIB
    written(cgroup, memory_dot_max="max\n")
    assert available_bytes(proc, cgroup) == 4 * MIB


def test_a_unit_and_the_slice_around_it_may_have_less_than_the_machine(tmp_path: Path) -> None:
    proc = machine(tmp_path, "0::/system.slice/overlock.service\n")
    cgroup = written(tmp_path / "group")
    limits = {"memory_dot_max": str(5 * MIB), "memory_dot_current": str(2 * MIB)}
    written(cgroup / "system.slice", **limits)
    written(cgroup / "system.slice" / "overlock.service", memory_dot_max="max\n")
    assert available_bytes(proc, cgroup) == 3 * MIB
    limits = {"memory_dot_max": str(3 * MIB), "memory_dot_current": str(2 * MIB)}
    written(cgroup / "system.slice" / "overlock.service", **limits)
    assert available_bytes(proc, cgroup) == MIB


@pytest.mark.parametrize("name", ["/docker/0123", "/"])
def test_a_container_of_the_first_version_has_its_group_as_the_root(
    tmp_path: Path, name: str
) -> None:
    proc = machine(tmp_path, f"4:cpu,memory:{name}\n1:name=systemd:/\n0::/\n")
    limits = {
        "memory_dot_limit_in_bytes": str(5 * MIB),
        "memory_dot_usage_in_bytes": str(4 * MIB),
    }
    written(tmp_path / "group")
    written(tmp_path / "group" / "memory", **limits, memory_dot_stat=f"total_inactive_file {MIB}\n")
    assert available_bytes(proc, tmp_path / "group") == 2 * MIB


def test_where_the_system_does_not_say_nothing_is_known(tmp_path: Path) -> None:
    assert available_bytes(tmp_path, tmp_path) is None


def test_a_process_can_be_made_the_first_to_go_and_like_the_others_again(tmp_path: Path) -> None:
    for pid in ("self", "7"):
        written(tmp_path / pid, oom_score_adj="900\n")
    volunteer(7, goes_first=True, proc=tmp_path)
    assert (tmp_path / "7" / "oom_score_adj").read_text() == "1000"
    volunteer(7, goes_first=False, proc=tmp_path)
    assert (tmp_path / "7" / "oom_score_adj").read_text() == "900"
    volunteer(8, goes_first=True, proc=tmp_path)  # it has ended
