from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from model.remote.extras import install_extra

ROOT = Path(__file__).parents[4]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_advice_suits_pip_and_uv() -> None:
    assert install_extra("batch") == (
        "install the extra batch: pip install 'overlock-service[batch]', or "
        "uv tool install 'overlock-service[batch]'"
    )


@pytest.mark.parametrize("folder", ["model", "service"])
def test_every_message_asks_for_an_extra_that_there_is(folder: str) -> None:
    texts = [path.read_text() for path in (ROOT / folder).rglob("*.py")]
    assert not [text for text in texts if f"pip install '{PROJECT['name']}[" in text]
    asked = {name for text in texts for name in re.findall(r"install_extra\('(\w+)'\)", text)}
    assert asked <= set(PROJECT["optional-dependencies"])
    assert asked if folder == "service" else True
