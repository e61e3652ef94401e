from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from service.commands.batch import machines
from service.commands.batch.machines import (
    cluster_pools,
    gpus_of,
    has_room,
    local_pools,
    memory_bytes,
)
from service.commands.batch.pipeline import Pools
from service.commands.console.exits import RefusedError
from service.processes.gpus import Gpus


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "find_gpus", lambda: Gpus(4, None, expected=True))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that it is as before afterwards
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(
    ("devices", "count"), [("cpu", 0), ("auto", 4), ("cuda", 4), ("cuda:3", 1)]
)
def test_a_run_has_the_gpus_that_are_named(devices: str, count: int, four_gpus: None) -> None:
    assert gpus_of(devices) == count


def test_ray_sees_the_named_gpus_alone(four_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert gpus_of("cuda:2,cuda:0") == 2
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "6,4"


def test_a_missing_gpu_is_refused(four_gpus: None) -> None:
    with pytest.raises(RefusedError, match="there is no cuda:4; 4 GPUs can be seen"):
        gpus_of("cuda:0,cuda:4")


def test_cuda_without_a_gpu_is_refused_in_torchs_words(monkeypatch: pytest.MonkeyPatch) -> None:
    none = Gpus(0, "Found no NVIDIA driver.", expected=True)
    monkeypatch.setattr(machines, "find_gpus", lambda: none)
    assert gpus_of("auto") == 0
    with pytest.raises(RefusedError, match=r"--devices is cuda; .* Found no NVIDIA driver"):
        gpus_of("cuda")


def test_decoders_take_the_cores_that_networks_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert local_pools(4, None) == Pools(11, 4, 1, 1)
    assert local_pools(0, None) == Pools(16, 1, 1, 0)
    assert local_pools(0, 3) == Pools(3, 1, 1, 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert local_pools(1, None) == Pools(1, 1, 1, 1)


def cluster(*machines: dict[str, float]) -> Any:
    nodes = [{"Alive": True, "Resources": machine} for machine in machines]
    return SimpleNamespace(nodes=lambda: [*nodes, {"Alive": False, "Resources": {"CPU": 64.0}}])


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (({"CPU": 16.0, "GPU": 2.0}, {"CPU": 16.0, "GPU": 2.0}), Pools(27, 4, 0, 1)),
        (({"CPU": 64.0}, {"CPU": 8.0, "GPU": 4.0}, {"GPU": 1.0}), Pools(66, 5, 0, 1)),
        (({"CPU": 8.0}, {"CPU": 8.0}), Pools(7, 2, 4, 0)),
        (({"CPU": 1.0}, {"CPU": 1.0}), Pools(1, 1, 1, 0)),
    ],
)
def test_a_cluster_has_a_network_for_each_gpu_or_machine(
    resources: tuple[dict[str, float], ...], expected: Pools
) -> None:
    assert cluster_pools(cluster(*resources), "auto", None) == expected


def test_a_named_gpu_of_a_cluster_is_refused() -> None:
    with pytest.raises(RefusedError, match="on a cluster it is auto, cuda or cpu"):
        cluster_pools(cluster({"CPU": 8.0}), "cuda:1", None)


@pytest.mark.parametrize(
    ("resources", "decoders", "said"),
    [
        ({"GPU": 1.0}, None, "--ray: the cluster has no CPU"),
        ({"CPU": 1.0}, None, "--ray: 2 CPUs are needed .* the cluster has 1"),
        ({"CPU": 8.0}, 5, "--decoders: 9 CPUs are needed .* the cluster has 8"),
    ],
)
def test_a_cluster_without_room_is_refused(
    resources: dict[str, float], decoders: int | None, said: str
) -> None:
    with pytest.raises(RefusedError, match=said):
        cluster_pools(cluster(resources), "auto", decoders)


def test_room_for_a_run_goes_with_the_machines_that_it_needs() -> None:
    pools = Pools(decoders=3, networks=2, network_cpus=2, network_gpus=0)
    assert has_room(cluster({"CPU": 4.0}, {"CPU": 4.0}), pools)
    assert not has_room(cluster({"CPU": 6.0}), pools)
    assert has_room(cluster({"CPU": 7.0}), pools)
    on_gpus = Pools(decoders=3, networks=2, network_cpus=0, network_gpus=1)
    assert has_room(cluster({"CPU": 4.0, "GPU": 2.0}), on_gpus)
    assert not has_room(cluster({"CPU": 8.0, "GPU": 1.0}), on_gpus)


@pytest.mark.parametrize(("text", "is_limited"), [("1000\n", True), ("max\n", False)])
def test_memory_is_the_container_s(
    text: str, is_limited: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "memory.max").write_text(text)
    monkeypatch.setattr(machines, "MEMORY_LIMIT", tmp_path / "memory.max")
    assert (memory_bytes() == 1000) == is_limited
