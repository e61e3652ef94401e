"""A run that is given again when nothing is missing: without Ray where the model is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from model.pretrained.records import sha256_of
from service.commands.batch import run as batch_run
from service.commands.console.exits import DONE, RefusedError
from support.batch_networks import MeanNetwork
from support.batch_runs import Batch, files_in, no_ray, write_scenes

WORDS = ("classify", "photos", "--output", "found", "--part-size", "2")
FILE = (*WORDS, "--model", "overlock_xt", "--weights", "weights.pth")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FileNetwork(MeanNetwork):
    """The network with the digest of the file that is named."""

    def __init__(self, settings: Any, spec: Any, *rest: Any) -> None:
        super().__init__(settings, spec, *rest)
        path = Path(spec.weights)
        digest = sha256_of(path) if path.exists() else "ef" * 32
        self.model = replace(self.model, weights_sha256=digest, weights_source=spec.weights)


@pytest.fixture
def started(batch: Batch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[bool]:
    """Whether Ray was started, an element for each time."""
    times: list[bool] = []

    def start(**words: Any) -> Any:
        times.append(True)
        return no_ray(**words)

    monkeypatch.setattr(batch_run, "local_ray", start)
    write_scenes(tmp_path / "photos", 3)
    (tmp_path / "weights.pth").write_bytes(b"weights")
    return times


@pytest.mark.parametrize(
    "words",
    [
        FILE,
        (*WORDS, "--model", "overlock_xt", "--weights", f"hf://owner/repo@{COMMIT}/weights.pth"),
    ],
)
def test_ray_is_not_started_for_the_same_model(
    words: tuple[str, ...], batch: Batch, started: list[bool], tmp_path: Path
) -> None:
    assert batch(*words, network=FileNetwork) == DONE
    before = files_in(tmp_path / "found")
    assert batch(*words, "--batch-size", "3", network=FileNetwork) == DONE
    assert len(started) == 1
    assert files_in(tmp_path / "found") == before


def test_ray_is_not_started_where_the_manifest_alone_is_missing(
    batch: Batch, started: list[bool], tmp_path: Path
) -> None:
    assert batch(*FILE, network=FileNetwork) == DONE
    before = files_in(tmp_path / "found")
    (tmp_path / "found" / "manifest.json").unlink()
    assert batch(*FILE, network=FileNetwork) == DONE
    assert len(started) == 1
    assert files_in(tmp_path / "found") == before


def test_other_weights_of_the_same_name_are_noticed(
    batch: Batch, started: list[bool], tmp_path: Path
) -> None:
    assert batch(*FILE, network=FileNetwork) == DONE
    (tmp_path / "weights.pth").write_bytes(b"others")
    with pytest.raises(RefusedError, match=r"weights_sha256 [0-9a-f]{12} instead of"):
        batch(*FILE, network=FileNetwork)


def test_a_model_in_other_words_is_loaded_to_be_compared(
    batch: Batch, started: list[bool], tmp_path: Path
) -> None:
    assert batch(*FILE, network=FileNetwork) == DONE
    assert batch(*FILE, "--dtype", "float32", network=FileNetwork) == DONE  # the same word
    assert len(started) == 1
    (tmp_path / "config.json").write_text("{}")
    assert batch(*FILE, network=FileNetwork) == DONE
    assert batch(*FILE, "--crop-pct", "0.9", network=FileNetwork) == DONE
    assert len(started) == 3


def test_another_precision_is_refused(batch: Batch, started: list[bool]) -> None:
    assert batch(*FILE, network=FileNetwork) == DONE
    with pytest.raises(RefusedError, match="dtype float32 instead of bfloat16"):
        batch(*FILE, "--dtype", "bfloat16", network=FileNetwork)


@pytest.mark.parametrize("weights", ["demo", "random"])
def test_bundled_and_random_weights_are_known(
    weights: str, batch: Batch, started: list[bool]
) -> None:
    from service.commands.batch.actors import local_network

    words = (*WORDS, "--model", "demo", "--weights", weights)
    assert batch(*words, network=local_network) == DONE
    assert batch(*words, network=local_network) == DONE
    assert len(started) == 1
