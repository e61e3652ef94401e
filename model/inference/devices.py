"""The devices of a machine, by the names that torch has for them."""

from __future__ import annotations

import torch


def find_device(name: str, host_name: str | None = None) -> torch.device:
    """Return the device of a name.

    It is ``auto`` (the first GPU, else the CPU), ``cuda`` (the first GPU), ``cpu`` or ``cuda:N``.

    Args:
        name: the device's in this process.
        host_name: its name on the host, where this process sees one GPU alone.

    Raises:
        ValueError: if the machine does not have it.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    device = torch.device("cuda:0" if name == "cuda" else name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        if host_name not in {None, name}:
            raise ValueError(f"Device {host_name} was asked for; torch can use no such GPU.")
        raise ValueError(
            f"Device {name} was asked for; this machine has {torch.cuda.device_count()} CUDA "
            "devices that torch can use."
        )
    return device


def device_name(device: torch.device) -> str:
    """Return a device's own name, for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"
