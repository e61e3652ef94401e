"""The compilers' cache folders, which make the next start shorter.

PyTorch and Triton each have a cache that checks its entries by content. There is a folder for each
combination of versions and hardware, so that an upgrade or another processor finds an empty folder
instead of foreign code, and an operator can delete folders that are out of use.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from service.settings import PREFIX, ModelSpec, Settings, SettingsError

_CACHES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
_COMPILED = "compiled"
_PRIVATE = 0o700
_NVIDIA = Path("/proc/driver/nvidia")
_PROCESSOR = Path("/proc/cpuinfo")


def compiler_environment(
    settings: Settings, specs: Sequence[ModelSpec], device: str
) -> dict[str, str]:
    """Make an engine's cache folders and return the environment variables that name them.

    Empty for an engine that compiles neither networks nor Triton kernels, and so needs no place to
    write to. Only the owner may write to the folders, since their content is executed.

    Args:
        settings: the service's.
        specs: its models.
        device: the engine's, named as in the settings.

    Raises:
        SettingsError: if the folders cannot be made.
    """
    if not _may_compile(settings, device):
        return {}
    folder = settings.cache_folder / _COMPILED / _key(settings, specs, device)
    variables = {name: folder / compiler for name, compiler in _CACHES.items()}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for path in (folder, *variables.values()):
            path.mkdir(mode=_PRIVATE, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"{PREFIX}CACHE_DIR: the compiled kernels cannot be kept ({error}); give a folder "
            "that can be written to"
        ) from error
    return {name: str(path) for name, path in variables.items()}


def compile_folder(environment: Mapping[str, str]) -> Path | None:
    """Return the folder that ``compiler_environment`` made for this process, if it did.

    Args:
        environment: the process's variables.
    """
    parents = {Path(environment.get(name, "")).parent for name in _CACHES}
    folder = parents.pop()
    return folder if not parents and folder.parent.name == _COMPILED else None


def _may_compile(settings: Settings, device: str) -> bool:
    on_gpu = device.startswith("cuda") or (device == "auto" and _NVIDIA.exists())
    return on_gpu or settings.compile == "on"


def _key(settings: Settings, specs: Sequence[ModelSpec], device: str) -> str:
    """Name everything that compiled code depends on."""
    facts = {
        "torch": version("torch"),
        "triton": _version_or_none("triton"),
        "device": [device, *_hardware()],
        "models": [_form_of(spec) for spec in specs],
        "geometry": settings.segment_geometry,
        "dtype": settings.dtype,
        "batches": settings.max_batch_size,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"torch-{facts['torch']}-{digest[:16]}"


def _form_of(spec: ModelSpec) -> list[object]:
    backbone = sorted(spec.backbone.items())
    return [spec.task, spec.architecture, spec.kind, backbone, spec.input.input_size]


def _version_or_none(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _hardware() -> list[str]:
    """Return the processor with its instruction sets, and the GPUs with their driver."""
    lines = _PROCESSOR.read_text().splitlines() if _PROCESSOR.exists() else []
    first = [line for line in lines if line.startswith(("model name", "flags", "Features"))][:2]
    cards = sorted(_NVIDIA.glob("gpus/*/information"))
    models = [line for card in cards for line in card.read_text().splitlines() if "Model" in line]
    driver = _NVIDIA / "version"
    return [
        platform.machine(),
        *first,
        *models,
        driver.read_text() if driver.exists() else "no NVIDIA driver",
    ]
