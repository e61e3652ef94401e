"""docs/models-file.md lists every key, and its example is read."""

from __future__ import annotations

import re
from pathlib import Path

from model.config import Task
from service.settings.models_file import _Table, read_models_file
from support.documents import blocks, text_of


def test_the_table_is_the_keys() -> None:
    rows = re.findall(r"^\| (`.*?`(?:, `.*?`)*) \|", text_of("docs/models-file.md"), re.MULTILINE)
    keys = [key for row in rows for key in re.findall(r"`(\w+)`", row)]
    assert sorted(keys) == sorted(_Table.model_fields)


def test_the_example_is_read(tmp_path: Path) -> None:
    example, own = blocks("docs/models-file.md", "toml")
    (tmp_path / "models.toml").write_text(example)
    birds, scenes = read_models_file(tmp_path / "models.toml")
    assert (birds.name, birds.input.input_size) == ("birds", 384)
    (tmp_path / "own.toml").write_text(own)
    (moths,) = read_models_file(tmp_path / "own.toml")
    assert moths.backbone == {"kernel_sizes": (19, 15, 13, 7)}
    assert (scenes.name, scenes.task) == ("scenes", Task.SEGMENT)
