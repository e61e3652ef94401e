"""docs/settings.md lists every setting, and its commands work."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from service.settings import PREFIX, Settings
from service.web.http.api_keys import ApiKeys
from support.documents import blocks, text_of

PAGE = text_of("docs/settings.md")


def setting_rows() -> list[str]:
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return rows


def test_the_table_is_the_settings() -> None:
    assert re.findall(rf"^\| `{PREFIX}.*$", PAGE, re.MULTILINE) == setting_rows()


def test_every_variable_is_a_setting() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(re.findall(rf"\b{PREFIX}[A-Z_]+\w", PAGE)) <= known


def test_a_key_that_is_made_as_it_says_is_a_key(tmp_path: Path) -> None:
    (block,) = [each for each in blocks("docs/settings.md", "bash") if "sha256sum" in each]
    making, _, _ = block.partition("OVERLOCK_API_KEYS_FILE")
    script = f"set -euo pipefail\n{making}\nprintf %s $KEY"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ApiKeys(tmp_path / "keys").name_of(done.stdout) == "gateway"
