"""The GPUs of the machine, asked of torch in a process that ends: the supervisor has no torch."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from service.settings import PREFIX, Settings, SettingsError

ASK_SECONDS = 120.0
"""Far above what it takes to load torch, and to wake a GPU's driver."""

ASK = """
import json, warnings
warnings.simplefilter("ignore")
import torch
count, reason = 0, None
try:
    torch.cuda.init()  # an old driver counts GPUs that it cannot use
    count = torch.cuda.device_count()
except Exception as error:
    reason = str(error)
print(json.dumps([count, reason]))
"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gpus:
    """The GPUs that torch can use here.

    Attributes:
        count: their number.
        reason: why there are none, in torch's words; None if there are some.
        expected: whether this torch is built for GPUs.
    """

    count: int
    reason: str | None
    expected: bool


def with_stated_devices(settings: Settings) -> Settings:
    """Replace ``auto`` and ``cuda`` in the settings by the devices that they mean here.

    Raises:
        SettingsError: if GPUs are asked for, and torch can use none.
    """
    if settings.devices not in {"auto", "cuda"}:
        return settings
    gpus = find_gpus()
    if not gpus.count and settings.devices == "cuda":
        raise SettingsError(f"{PREFIX}DEVICES is cuda; torch can use no GPU: {gpus.reason}")
    if not gpus.count and gpus.expected:
        logger.warning(
            "The CPU computes, though this torch is built for GPUs: it can use none: %s",
            gpus.reason,
        )
    names = [f"cuda:{index}" for index in range(gpus.count)] or ["cpu"]
    return settings.model_copy(update={"devices": ",".join(names)})


def find_gpus() -> Gpus:
    """Count the GPUs that torch can use, of those that ``CUDA_VISIBLE_DEVICES`` shows."""
    if not _built_for_cuda():
        return Gpus(0, "it is built for CPUs alone", expected=False)
    command = [sys.executable, "-P", "-c", ASK]
    try:
        asked = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, check=False, timeout=ASK_SECONDS
        )
        count, reason = json.loads(asked.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        # A driver that hangs or crashes: an engine on it would, too.
        return Gpus(0, "it crashes, or hangs, when it is asked for GPUs", expected=True)
    return Gpus(count, None if reason is None else " ".join(reason.split()), expected=True)


def _built_for_cuda() -> bool:
    """Read it from a file of torch's: loading it takes seconds."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return True  # an unknown build is asked
    return re.search(r"^cuda\b.*= *None\b", text, re.MULTILINE) is None
