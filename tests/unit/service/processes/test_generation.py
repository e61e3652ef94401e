from __future__ import annotations

from pathlib import Path

import pytest

from service.processes.generation import Generation
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
