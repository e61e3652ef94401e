"""Checks of single values of the settings."""

from __future__ import annotations

import ipaddress
import re

from pydantic import AfterValidator

from model.config import CLASSIFIERS, DETECTORS, SEGMENTERS, Task

OFF = "off"
"""The model of a task that is not served."""

MODELS: dict[Task, tuple[str, ...]] = {
    Task.CLASSIFY: tuple(CLASSIFIERS),
    Task.SEGMENT: tuple(SEGMENTERS),
    Task.DETECT: tuple(DETECTORS),
}
"""Models that can be served, by task."""

CUDA_DEVICE = re.compile(r"cuda:\d+")
ORIGIN = re.compile(r"https?://[A-Za-z0-9._\-\[\]:]+")
PATH_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")

MODEL_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
"""A served model's name."""


def is_model_of(task: Task) -> AfterValidator:
    """Return the check that a name is of an architecture for a task, or ``off``."""

    def check(name: str) -> str:
        if name not in {*MODELS[task], OFF}:
            raise ValueError(
                f"no model {name!r} can {task}; there are {', '.join(MODELS[task])}, or {OFF}"
            )
        return name

    return AfterValidator(check)


def is_model_name(name: str) -> str:
    """Check that a served model can have the name."""
    if MODEL_NAME.fullmatch(name):
        return name
    raise ValueError("a name has 1 to 64 letters, digits, dots, underscores and hyphens")


def is_device_list(devices: str) -> str:
    """Check a list of devices."""
    names = devices.split(",")
    distinct = len(set(names)) == len(names)
    if devices in {"auto", "cuda", "cpu"} or (distinct and all(map(CUDA_DEVICE.fullmatch, names))):
        return devices
    raise ValueError("give auto, cuda, cpu, or a list like cuda:0,cuda:1")


def are_origins(origins: str) -> str:
    """Check a list of origins."""
    if origins == "*" or all(map(ORIGIN.fullmatch, origins.split(","))):
        return origins
    raise ValueError("give *, or a list like https://a.example,http://localhost:3000")


def is_prefix(path: str) -> str:
    """Check the path below which a proxy offers the service."""
    if PATH_PREFIX.fullmatch(path):
        return path
    raise ValueError("give a path like /overlock, without a slash at its end")


def is_loopback(host: str) -> bool:
    """Return whether only this machine's processes reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
