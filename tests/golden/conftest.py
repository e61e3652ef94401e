from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def photos_dir() -> Path:
    folder = os.environ.get("GOLDEN_PHOTOS_DIR")
    if not folder:
        pytest.skip("GOLDEN_PHOTOS_DIR names no folder with the photographs; none can be kept here")
    return Path(folder)
