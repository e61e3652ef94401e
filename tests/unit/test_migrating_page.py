"""docs/migrating.md names settings, metrics and routes that exist, and its files are read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from model.config import Task
from model.export.program import INPUT_NAME, OUTPUT_NAME
from service.settings.models_file import read_models_file
from service.settings.settings import Settings
from support.documents import blocks, text_of

PAGE = text_of("docs/migrating.md")


def field_of(variable: str) -> FieldInfo:
    return Settings.model_fields[variable.lower()]


def test_every_setting_exists_and_has_the_default_that_is_told() -> None:
    for variable in re.findall(r"OVERLOCK_(\w+)", PAGE):
        assert field_of(variable)
    told = re.findall(r"`OVERLOCK_(\w+)` (\d+)[ ;]", PAGE)
    assert [name for name, _ in told] == [
        "MAX_BATCH_SIZE",
        "HTTP_WORKERS",
        "MAX_QUEUE_REQUESTS",
        "DEFAULT_TIMEOUT_SECONDS",
        "MAX_BODY_BYTES",
    ]
    units = {"MAX_BODY_BYTES": 2**20}
    assert [field_of(name).default for name, _ in told] == [
        int(number) * units.get(name, 1) for name, number in told
    ]


def test_every_metric_is_one_of_the_observability_page() -> None:
    described = set(
        re.findall(r"^\| `(overlock_\w+)`", text_of("docs/observability.md"), re.MULTILINE)
    )
    named = set(re.findall(r"`(overlock_[a-z_]+)`", PAGE))
    assert named
    assert named <= described


@pytest.mark.parametrize("place", [0, 1], ids=["Triton", "TorchServe"])
def test_the_models_files_are_read(place: int, tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(blocks("docs/migrating.md", "toml")[place])
    (tmp_path / "birds.txt").write_text("wren\nrook\n")
    (tmp_path / "birds.pth").touch()
    (birds,) = read_models_file(tmp_path / "models.toml")
    assert (birds.name, birds.task) == ("birds", Task.CLASSIFY)
    assert birds.input.crop_pct == (None, 0.875)[place]


def test_torchserves_names_become_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"1": "rook", "0": ["n01530575", "wren"]}
    (tmp_path / "index_to_name.json").write_text(json.dumps(names))
    (block,) = [
        block
        for block in blocks("docs/migrating.md", "python")
        if block.startswith("# here, labels\n")
    ]
    exec(compile(block, "docs/migrating.md", "exec"), {})  # our own document
    assert (tmp_path / "birds.txt").read_text() == "wren\nrook\n"


def test_tritons_configuration_has_the_tensors_of_an_exported_file() -> None:
    (configuration,) = blocks("docs/migrating.md", "protobuf")
    assert re.findall(r'name: "(\w+)"', configuration) == [INPUT_NAME, OUTPUT_NAME]


def test_the_code_for_other_servers_is_python() -> None:
    for block in blocks("docs/migrating.md", "python"):
        compile(block, "docs/migrating.md", "exec")
