"""A folder of models, as a downloader leaves it: a models file, or one classifier's weights."""

from __future__ import annotations

import re
from pathlib import Path

from model.checkpoints.file_kind import weights_file_in, weights_file_problem
from service.settings.settings import PREFIX, SettingsError

FILE_NAME = "models.toml"
LONGEST_NAME = 64


def models_file_in(path: Path) -> Path:
    """Return the file that states what a folder serves; of another path, the path itself.

    Args:
        path: as ``OVERLOCK_MODELS_FILE`` states it.

    Returns:
        The folder's models file, or else the one weights file in it, which states everything
        itself; see ``lone_weights_text``.

    Raises:
        SettingsError: if a folder has neither, or cannot be read.
    """
    try:
        if not path.is_dir():
            return path
        if (path / FILE_NAME).exists():
            return path / FILE_NAME
        weights = weights_file_in(path)
    except OSError as error:
        raise unreadable(path, error) from error
    if weights == path:
        raise SettingsError(
            f"{PREFIX}MODELS_FILE: {weights_file_problem(path)} Or put a {FILE_NAME} there, which "
            "says what is served."
        )
    return weights


def unreadable(path: Path, error: OSError) -> SettingsError:
    """Return the error for a models file, or its folder, that cannot be read."""
    return SettingsError(f"{PREFIX}MODELS_FILE: {path} cannot be read: {error.strerror}.")


def lone_weights_text(weights: Path) -> bytes:
    """Return the models file that one classifier's weights stand for.

    The folder is taken as the weights, since a hub's configuration may lie beside the file.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "-", weights.stem)[:LONGEST_NAME]
    return f'["{name}"]\nweights = "."\n["{name}".backbone]\n'.encode()
