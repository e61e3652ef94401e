"""``overlock batch`` on a cluster of two nodes, of which one is killed in the middle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from service.commands.batch.actors import local_network
from service.commands.console.exits import DONE
from support.batch_runs import (
    PATIENCE_SECONDS,
    Batch,
    files_in,
    rows_of,
    wait_for_parts,
    write_scenes,
)
from support.command_line import OVERLOCK
from support.ray_cluster import RayCluster

WORDS = ("classify", "photos", "--output", "found", "--part-size", "8", "--batch-size", "1")

STAND_IN = (sys.executable, "-m", "support.batch_command", "SlowNetwork")

pytestmark = pytest.mark.timeout(3 * PATIENCE_SECONDS)


def killed_in_the_middle(cluster: RayCluster, folder: Path, *command: str) -> str:
    """Run, kill a node after some parts, and return what the run has said in the end."""
    with subprocess.Popen(
        [*command, *WORDS, "--decoders", "1", "--ray", cluster.address],
        cwd=folder,
        env=cluster.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            wait_for_parts(process, folder / "found", 1)
            cluster.wait_for_a_network_on_the_other(process)
            cluster.kill_the_other()
            assert not (folder / "found" / "manifest.json").exists()
            said, _ = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            process.kill()
    assert process.returncode == DONE, said.decode()
    return said.decode()


@pytest.mark.parametrize(
    ("cpus", "gpus", "has_room"),
    [
        pytest.param(3, 0, True, id="others have room"),
        pytest.param(
            2, 1, False, id="there is no room for its network", marks=pytest.mark.exhaustive
        ),
    ],
)
def test_a_run_ends_right_when_a_machine_is_killed(
    cpus: int, gpus: int, has_room: bool, batch: Batch, tmp_path: Path
) -> None:
    images = 32
    write_scenes(tmp_path / "photos", images)
    assert batch(*WORDS) == DONE
    whole = files_in(tmp_path / "found")
    (tmp_path / "found").rename(tmp_path / "whole")
    with RayCluster(cpus=cpus, gpus=gpus) as cluster:
        said = killed_in_the_middle(cluster, tmp_path, *STAND_IN)
    paths = [row["path"] for row in rows_of(tmp_path / "found")]
    assert paths == [f"photos/{number:03d}.png" for number in range(images)]
    assert files_in(tmp_path / "found") == whole
    assert ("has lost machines" in said) == (not has_room), said
    assert all(line.startswith("overlock batch: ") for line in said.splitlines()), said


@pytest.mark.exhaustive
def test_the_real_command_ends_right_when_a_machine_is_killed(batch: Batch, tmp_path: Path) -> None:
    write_scenes(tmp_path / "photos", 2000)
    assert batch(*WORDS, network=local_network) == DONE
    whole = files_in(tmp_path / "found")
    (tmp_path / "found").rename(tmp_path / "whole")
    with RayCluster(cpus=3) as cluster:
        killed_in_the_middle(cluster, tmp_path, OVERLOCK, "batch")
    assert files_in(tmp_path / "found") == whole
