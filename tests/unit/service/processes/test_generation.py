from __future__ import annotations

from pathlib import Path

import pytest

from service.api.errors import UnknownModelError
from service.processes.generation import Generation
from service.processes.selection import RELOAD, Action, Change, Selection
from service.settings import Settings, SettingsError


def test_a_copy_of_the_models_file_that_cannot_be_written_is_told_with_its_folder(
    tmp_path: Path,
) -> None:
    models, folder = tmp_path / "models.toml", tmp_path / "gone"
    models.write_text('[a]\narchitecture = "demo"\n')
    with pytest.raises(SettingsError) as refusal:
        Generation(
            Settings(models_file=models),
            2,
            folder,
            None,
            on_change=lambda: None,
            on_death=lambda: None,
        )
    assert str(refusal.value) == (
        f"The runtime folder {folder} cannot take a copy of the models file: No such file or "
        "directory."
    )


def test_a_model_that_is_unloaded_is_not_looked_at(tmp_path: Path) -> None:
    models = tmp_path / "models.toml"
    settings = Settings(models_file=models, devices="cpu")

    def begin(number: int, before: Generation | None, change: Change) -> Generation:
        return Generation(
            settings,
            number,
            tmp_path,
            before,
            change,
            on_change=lambda: None,
            on_death=lambda: None,
        )

    models.write_text('[a]\narchitecture = "demo"\n[-b]\narchitecture = "demo"\n')
    first = begin(1, None, RELOAD)
    assert first.selection == Selection(("a", "-b"))
    assert not [word for word in first.engines[0].command if word.startswith("--without")]
    missing = '[-b]\narchitecture = "demo"\nweights = "missing.pth"\n'
    models.write_text(f'[a]\narchitecture = "demo"\n{missing}')
    second = begin(2, first, Change(Action.UNLOAD, "-b"))
    assert second.selection == Selection(("a", "-b"), frozenset({"-b"}))
    assert "--without=-b" in second.engines[0].command
    with pytest.raises(SettingsError, match=r"missing\.pth"):
        begin(3, second, Change(Action.LOAD, "-b"))
    with pytest.raises(UnknownModelError):
        begin(3, second, Change(Action.LOAD, "c"))
