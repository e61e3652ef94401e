"""A folder for each set of things that compiled code depends on, private, told to the compilers."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.processes import compile_cache
from service.processes.compile_cache import compile_folder, compiler_environment
from service.settings import SettingsError, load_settings, specs_of


@pytest.fixture(autouse=True)
def _a_machine_with_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    card = tmp_path / "nvidia" / "gpus" / "0000:01:00.0"
    card.mkdir(parents=True)
    (card / "information").write_text("Model: \t\t NVIDIA H200\nIRQ: 1\n")
    (tmp_path / "nvidia" / "version").write_text("580.1\n")
    monkeypatch.setattr(compile_cache, "_NVIDIA", tmp_path / "nvidia")


def environment(cache: Path, device: str = "auto", **settings: str) -> dict[str, str]:
    loaded = load_settings({"cache_dir": str(cache)} | settings)
    return compiler_environment(loaded, specs_of(loaded), device)


def test_compilers_get_private_folders_of_their_own(tmp_path: Path) -> None:
    variables = environment(tmp_path / "cache")
    assert variables.keys() == {"TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"}
    folders = {Path(value) for value in variables.values()}
    assert len(folders) == 2
    for folder in folders:
        assert folder.is_relative_to(tmp_path / "cache" / "compiled")
        assert folder.stat().st_mode & 0o777 == 0o700


def test_the_process_finds_its_folder_by_its_variables(tmp_path: Path) -> None:
    variables = environment(tmp_path)
    assert compile_folder(variables) == Path(variables["TRITON_CACHE_DIR"]).parent
    assert compile_folder({}) is None
    assert compile_folder({"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "an operator's own")}) is None


def test_the_next_start_finds_the_same_folders(tmp_path: Path) -> None:
    assert environment(tmp_path) == environment(tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        {"classify_model": "overlock_t", "classify_weights": "random"},
        {"segment_geometry": "square"},
        {"dtype": "float32"},
        {"max_batch_size": "4"},
        {"device": "cuda:1"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_is_compiled_differently_lies_elsewhere(tmp_path: Path, other: dict[str, str]) -> None:
    assert environment(tmp_path, **other) != environment(tmp_path)


def test_another_card_or_driver_finds_an_empty_folder(tmp_path: Path) -> None:
    before = environment(tmp_path)
    (tmp_path / "nvidia" / "version").write_text("590.2\n")
    assert environment(tmp_path) != before


@pytest.mark.parametrize(
    ("device", "setting", "compiles"),
    [("cpu", "auto", False), ("cpu", "on", True), ("cuda:0", "auto", True), ("auto", "off", True)],
)
def test_only_an_engine_that_compiles_networks_or_kernels_needs_a_folder(
    tmp_path: Path, device: str, setting: str, compiles: bool
) -> None:
    assert bool(environment(tmp_path / "cache", device, compile=setting)) == compiles
    assert (tmp_path / "cache").exists() == compiles


def test_a_folder_that_cannot_be_made_stops_the_start_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="OVERLOCK_CACHE_DIR: the compiled kernels cannot be"):
        environment(tmp_path / "file" / "cache")
