from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from model.config import Task
from service.processes.start_checks import check_files
from service.settings import ModelSpec, SettingsError, load_settings, models_text, specs_of
from service.settings.models_folder import models_file_in

WEIGHTS = Path(__file__).parents[4] / "model/demo/weights/overlock_nano.safetensors"


def specs(folder: Path) -> tuple[ModelSpec, ...]:
    settings = load_settings({"models_file": str(folder)})
    found = specs_of(settings)
    check_files(settings, found)
    return found


def test_a_folder_states_what_its_models_file_states(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text('[birds]\narchitecture = "demo"\nweights = "a.pth"\n')
    (spec,) = specs_of(load_settings({"models_file": str(tmp_path)}))
    assert (spec.name, spec.weights) == ("birds", str(tmp_path / "a.pth"))
    assert spec.blame("weights").startswith(str(tmp_path / "models.toml"))


def test_the_models_file_wins_over_weights_beside_it(tmp_path: Path) -> None:
    shutil.copy(WEIGHTS, tmp_path)
    (tmp_path / "models.toml").write_text('[birds]\narchitecture = "demo"\n')
    (spec,) = specs(tmp_path)
    assert spec.weights == "demo"


def test_weights_alone_are_a_classifier_that_states_itself(tmp_path: Path) -> None:
    shutil.copy(WEIGHTS, tmp_path / "garden birds, v2.safetensors")
    (spec,) = specs(tmp_path)
    assert (spec.name, spec.task) == ("garden-birds--v2", Task.CLASSIFY)
    assert (spec.architecture, spec.network, spec.weights) == (None, {}, str(tmp_path))


def test_a_copy_of_the_text_is_read_in_the_place_of_the_folder(tmp_path: Path) -> None:
    folder, copy = tmp_path / "models", tmp_path / "copy.toml"
    folder.mkdir()
    shutil.copy(WEIGHTS, folder)
    copy.write_bytes(models_text(folder))
    (spec,) = specs_of(load_settings({"models_file": str(folder)}), copy)
    assert spec.weights == str(folder)


@pytest.mark.parametrize(
    ("names", "held"),
    [
        ([], "no weights file"),
        (["readme.txt", "optimizer.pth"], "no weights file"),
        (["a.pth", "b.safetensors"], "2 weights files: a.pth, b.safetensors"),
    ],
)
def test_none_and_several_are_refused_in_a_sentence(
    tmp_path: Path, names: list[str], held: str
) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(SettingsError) as refusal:
        specs(tmp_path)
    assert str(refusal.value) == (
        f"OVERLOCK_MODELS_FILE: {tmp_path} is a folder with {held}; give the path of one. "
        "Or put a models.toml there, which says what is served."
    )


def test_damaged_weights_are_told_by_their_own_path(tmp_path: Path) -> None:
    (tmp_path / "birds.pth").write_bytes(b"<html>")
    with pytest.raises(SettingsError) as refusal:
        specs(tmp_path)
    assert str(refusal.value).startswith(f"{tmp_path / 'birds.pth'}, [birds] weights: ")


def test_a_folder_that_cannot_be_read_is_told_with_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(SettingsError) as refusal:
        models_file_in(tmp_path)
    assert str(refusal.value) == (
        f"OVERLOCK_MODELS_FILE: {tmp_path} cannot be read: Permission denied."
    )
