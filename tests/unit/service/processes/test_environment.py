"""An engine sees one GPU alone; the operator's own variables are respected."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.processes.environment import engine_environment, gpu_environment, local_device
from service.processes.generation import Generation
from service.settings import SettingsError, load_settings

VISIBLE = "CUDA_VISIBLE_DEVICES"


@pytest.fixture(autouse=True)
def _no_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)


@pytest.mark.parametrize(
    ("operators", "device", "want"),
    [
        (None, "cuda:0", "0"),
        (None, "cuda:3", "3"),
        (None, "auto", "0"),
        ("2,5", "cuda:1", "5"),
        ("2, 5", "auto", "2"),
        ("MIG-a,GPU-b", "cuda:1", "GPU-b"),
    ],
)
def test_an_engine_is_shown_its_own_gpu(
    monkeypatch: pytest.MonkeyPatch, operators: str | None, device: str, want: str
) -> None:
    if operators is not None:
        monkeypatch.setenv(VISIBLE, operators)
    assert gpu_environment(device) == {VISIBLE: want}


@pytest.mark.parametrize(("operators", "device"), [("2,5", "cpu"), ("", "auto")])
def test_an_engine_without_a_gpu_keeps_the_operators_variable(
    monkeypatch: pytest.MonkeyPatch, operators: str, device: str
) -> None:
    monkeypatch.setenv(VISIBLE, operators)
    assert gpu_environment(device) == {}


def test_a_gpu_that_the_operator_hides_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "2,5,-1,7")  # to CUDA the list ends at a negative number
    with pytest.raises(SettingsError, match="cuda:2 is not among CUDA_VISIBLE_DEVICES=2,5,-1,7"):
        gpu_environment("cuda:2")


def test_in_its_process_a_gpu_is_the_first_one() -> None:
    names = {name: local_device(name) for name in ("cuda:0", "cuda:7", "cpu", "auto")}
    assert names == {"cuda:0": "cuda:0", "cuda:7": "cuda:0", "cpu": "cpu", "auto": "auto"}


def test_each_engine_gets_one_gpu_and_keeps_its_name_on_the_host(tmp_path: Path) -> None:
    settings = load_settings({"devices": "cuda:0,cuda:1", "cache_dir": str(tmp_path / "cache")})
    generation = Generation(settings, 1, tmp_path, None, on_change=print, on_death=print)
    engines = generation.engines
    assert [engine.environment[VISIBLE] for engine in engines] == ["0", "1"]
    for engine, name in zip(engines, ("cuda:0", "cuda:1"), strict=True):
        words = engine.command
        assert words[words.index("--device") + 1] == name
        assert words[words.index("--local-device") + 1] == "cuda:0"


def test_the_compiler_starts_few_workers_unless_the_operator_says_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variable = "TORCHINDUCTOR_COMPILE_THREADS"
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 96)
    assert engine_environment()[variable] == "8"
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert engine_environment()[variable] == "2"
    monkeypatch.setenv(variable, "1")
    assert engine_environment()[variable] == "1"
