"""``auto`` and ``cuda`` are the GPUs that torch can use, and say why there are none."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from service.processes import gpus
from service.processes.gpus import ASK, Gpus, find_gpus, with_stated_devices
from service.settings import Settings, SettingsError

TorchWith = Callable[..., None]

TORCH = """
class cuda:
    @staticmethod
    def device_count(): return {count}
    @staticmethod
    def init():
        if {usable} < 1:
            raise RuntimeError("Found no NVIDIA driver\\n  on your system.")
"""


@pytest.fixture
def torch_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TorchWith:
    """Have the process that is asked load a torch that is built for CUDA, with so many GPUs."""

    def patched(
        count: object,
        version: str = "cuda: Optional[str] = '13.0'\n",
        usable: object = None,
    ) -> None:
        package = tmp_path / "torch"
        package.mkdir()
        usable = count if usable is None else usable
        (package / "__init__.py").write_text(TORCH.format(count=count, usable=usable))
        (package / "version.py").write_text(version)
        spec = SimpleNamespace(origin=str(package / "__init__.py"))
        monkeypatch.setattr(gpus, "find_spec", lambda _: spec)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return patched


@pytest.mark.parametrize(
    ("devices", "count", "stated"),
    [
        ("auto", 1, "cuda:0"),
        ("auto", 3, "cuda:0,cuda:1,cuda:2"),
        ("auto", 0, "cpu"),
        ("cuda", 2, "cuda:0,cuda:1"),
        ("cuda:1", 2, "cuda:1"),
        ("cpu", 2, "cpu"),
    ],
)
def test_the_devices_are_stated(
    torch_with: TorchWith, devices: str, count: int, stated: str
) -> None:
    torch_with(count)
    assert with_stated_devices(Settings(devices=devices)).devices == stated


def test_cuda_without_a_gpu_is_refused_in_torchs_words(torch_with: TorchWith) -> None:
    torch_with(0)
    with pytest.raises(SettingsError) as refused:
        with_stated_devices(Settings(devices="cuda"))
    assert str(refused.value) == (
        "OVERLOCK_DEVICES is cuda; torch can use no GPU: Found no NVIDIA driver on your system."
    )


def test_a_torch_for_gpus_that_finds_none_says_so_loudly(
    torch_with: TorchWith, caplog: pytest.LogCaptureFixture
) -> None:
    torch_with(0)
    with_stated_devices(Settings(devices="auto"))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "Found no NVIDIA driver on your system." in record.getMessage()


def test_gpus_that_their_driver_is_too_old_for_are_none(torch_with: TorchWith) -> None:
    torch_with(2, usable=0)
    assert find_gpus() == Gpus(0, "Found no NVIDIA driver on your system.", expected=True)


def test_a_torch_for_cpus_is_not_even_loaded(
    torch_with: TorchWith, caplog: pytest.LogCaptureFixture
) -> None:
    torch_with("1 / 0", "cuda: Optional[str] = None\n")
    assert find_gpus() == Gpus(0, "it is built for CPUs alone", expected=False)
    with_stated_devices(Settings(devices="auto"))
    assert caplog.records == []


def test_a_driver_that_crashes_is_no_gpu(torch_with: TorchWith) -> None:
    torch_with("__import__('os').abort()")
    assert find_gpus().count == 0
    assert "crashes" in str(find_gpus().reason)


def test_the_question_is_one_that_the_real_torch_answers() -> None:
    asked = subprocess.run(
        [sys.executable, "-P", "-c", ASK], capture_output=True, text=True, check=True
    )
    assert asked.stdout.startswith("[")
