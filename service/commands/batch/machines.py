"""Devices and memory: how many actors a run has, here or on a cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from service.commands.batch.pipeline import Pools
from service.commands.console.exits import RefusedError
from service.processes.environment import ALL_GPUS, gpu_environment
from service.processes.gpus import find_gpus
from service.settings import SettingsError

MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")


def gpus_of(devices: str) -> int:
    """Return how many of this machine's GPUs a run has, and let Ray see no others.

    Args:
        devices: auto, cuda, cpu, or a list like cuda:0,cuda:1.

    Raises:
        RefusedError: if one of them is missing.
    """
    if devices == "cpu":
        return 0
    gpus = find_gpus()
    if devices == "cuda" and not gpus.count:
        raise RefusedError(f"--devices is cuda; torch can use no GPU: {gpus.reason}")
    if devices in {"auto", "cuda"}:
        return gpus.count
    names = devices.split(",")
    for name in names:
        if int(name.removeprefix("cuda:")) >= gpus.count:
            raise RefusedError(f"--devices: there is no {name}; {gpus.count} GPUs can be seen.")
    try:
        os.environ[ALL_GPUS] = ",".join(gpu_environment(name)[ALL_GPUS] for name in names)
    except SettingsError as error:
        raise RefusedError(str(error)) from error
    return len(names)


def local_pools(gpus: int, decoders: int | None) -> Pools:
    """Return the actors on this machine."""
    cores = len(os.sched_getaffinity(0))
    # A network on the CPU has every core too: decoders give way to it, and have what it leaves.
    left = cores - gpus - 1 if gpus else cores
    return Pools(decoders or max(1, left), max(1, gpus), 1, 1 if gpus else 0)


def cluster_pools(ray: Any, devices: str, decoders: int | None) -> Pools:
    """Return the actors on a cluster: a network on each GPU, or else on each machine.

    Raises:
        RefusedError: if a GPU is named, or the cluster has no room for the actors.
    """
    if devices not in {"auto", "cuda", "cpu"}:
        raise RefusedError(
            "--devices: on a cluster it is auto, cuda or cpu; Ray gives the GPUs out."
        )
    machines = _machines(ray)
    cpus = [count for count, _ in machines if count]
    if not cpus:
        raise RefusedError("--ray: the cluster has no CPU.")
    gpus = 0 if devices == "cpu" else sum(count for _, count in machines)
    if devices == "cuda" and not gpus:
        raise RefusedError("--devices is cuda; the cluster has no GPU.")
    # Decoders take the other half. They may also take every CPU of a machine with GPUs, which must
    # not keep the networks from these: such a network counts as none, though one is left for it.
    network_cpus = 0 if gpus else max(1, min(cpus) // 2)
    networks = gpus or max(1, sum(count > network_cpus for count in cpus))
    left = sum(cpus) - networks * (network_cpus or 1) - 1
    pools = Pools(decoders or max(1, left), networks, network_cpus, 1 if gpus else 0)
    if not has_room(ray, pools):
        raise RefusedError(
            f"{'--ray' if decoders is None else '--decoders'}: {pools.cpus - 1} CPUs are needed "
            f"(networks: {networks}, decoders: {pools.decoders}), and the cluster has {sum(cpus)}."
        )
    return pools


def has_room(ray: Any, pools: Pools) -> bool:
    """Return whether the machines of a cluster that are alive have room for the actors."""
    machines = _machines(ray)
    networks = sum(
        gpus // pools.network_gpus if pools.network_gpus else cpus // pools.network_cpus
        for cpus, gpus in machines
    )
    return networks >= pools.networks and sum(cpus for cpus, _ in machines) >= pools.cpus - 1


def _machines(ray: Any) -> list[tuple[int, int]]:
    """Return the CPUs and GPUs of each machine of a cluster that is alive."""
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(int(machine.get("CPU", 0)), int(machine.get("GPU", 0))) for machine in found]


def memory_bytes() -> int:
    """Return the memory of this machine, or of the container."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = MEMORY_LIMIT.read_text().strip()
    except OSError:
        return memory
    return min(memory, int(limit)) if limit.isdigit() else memory
