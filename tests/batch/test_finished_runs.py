"""A run that is given again when nothing is missing: without Ray where the model is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from model.pretrained.records import sha256_of
from service.commands.batch import run as batch_run
from service.commands.console.exits import DONE, FAILED, RefusedError
from support.batch_networks import DetectingNetwork, MeanNetwork
from support.batch_runs import Batch, files_in, no_ray, write_scenes

WORDS = ("classify", "photos", "--output", "found", "--part-size", "2")
DETECT = ("detect", *WORDS[1:], "--model", "mask_rcnn_overlock_t", "--weights", "random")
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


def test_a_part_that_was_replaced_is_noticed(
    batch: Batch, started: list[bool], tmp_path: Path
) -> None:
    assert batch(*FILE, network=FileNetwork) == DONE
    before = files_in(tmp_path / "found")
    part = tmp_path / "found" / "part-00000.parquet"
    table = pq.read_table(part)
    metadata = pq.read_metadata(part).metadata
    pq.write_table(table.slice(0, 1).replace_schema_metadata(metadata), part)
    words = r"found has part-00000\.parquet, which has \d+ bytes, and had \d+ when it was written"
    with pytest.raises(RefusedError, match=words):
        batch(*FILE, network=FileNetwork)
    part.unlink()
    assert batch(*FILE, network=FileNetwork) == DONE
    assert files_in(tmp_path / "found") == before


def test_a_part_of_equal_size_with_another_end_is_noticed(
    batch: Batch, started: list[bool], tmp_path: Path
) -> None:
    assert batch(*FILE, network=FileNetwork) == DONE
    before = files_in(tmp_path / "found")
    part = tmp_path / "found" / "part-00001.parquet"
    content = bytearray(part.read_bytes())
    content[content.index(b"PAR1") + 40] ^= 1  # of a small part, all of it is its end
    part.write_bytes(content)
    words = r"found has part-00001\.parquet, which has changed since it was written; remove it"
    with pytest.raises(RefusedError, match=words):
        batch(*FILE, network=FileNetwork)
    part.unlink()
    assert batch(*FILE, network=FileNetwork) == DONE
    assert files_in(tmp_path / "found") == before


def test_a_manifest_of_an_older_release_is_enough(
    batch: Batch, started: list[bool], tmp_path: Path
) -> None:
    assert batch(*FILE, network=FileNetwork) == DONE
    path = tmp_path / "found" / "manifest.json"
    before = path.read_bytes()
    manifest = json.loads(before)
    del manifest["datasets"]
    for part in manifest["parts"]:
        del part["end_sha256"]
    path.write_text(json.dumps(manifest))
    assert batch(*FILE, network=FileNetwork) == DONE
    assert path.read_bytes() == before
    assert len(started) == 1


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("coco", "coco.json"),
        ("yolo", "yolo/images.txt"),
        ("yolo", "yolo/data.yaml"),
        ("label-studio", "label-studio.json"),
        ("label-studio", "label-studio.xml"),
    ],
)
def test_a_data_set_that_has_changed_is_refused_and_made_again_without_the_file(
    kind: str, name: str, batch: Batch, tmp_path: Path
) -> None:
    write_scenes(tmp_path / "photos", 3)
    words = (*DETECT, "--format", kind)
    assert batch(*words, network=DetectingNetwork) == DONE
    before = files_in(tmp_path / "found")
    file = tmp_path / "found" / name
    content = file.read_bytes()
    for changed, reason in (
        (content + b" ", "which has [0-9]+ bytes, and had [0-9]+ when it was written"),
        (b" " + content[1:], "which has changed since it was written"),
    ):
        file.write_bytes(changed)
        with pytest.raises(RefusedError, match=f"found has {name}, {reason}; remove it"):
            batch(*words, network=DetectingNetwork)
    file.unlink()
    assert batch(*words, network=DetectingNetwork) == DONE
    assert files_in(tmp_path / "found") == before


def test_other_weights_of_the_same_name_are_noticed(
    batch: Batch, started: list[bool], tmp_path: Path
) -> None:
    assert batch(*FILE, network=FileNetwork) == DONE
    (tmp_path / "weights.pth").write_bytes(b"others")
    with pytest.raises(RefusedError, match=r"weights was [0-9a-f]{12} and is"):
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
    with pytest.raises(RefusedError, match="--dtype was float32 and is bfloat16"):
        batch(*FILE, "--dtype", "bfloat16", network=FileNetwork)


def test_a_finished_run_with_few_failed_images_is_a_success(
    batch: Batch, started: list[bool], tmp_path: Path
) -> None:
    (tmp_path / "photos" / "bad.png").write_bytes(b"bad")
    assert batch(*FILE, network=FileNetwork) == FAILED
    assert batch(*FILE, "--max-failed", "1", network=FileNetwork) == DONE
    assert batch(*FILE, "--max-failed", "24.9%", network=FileNetwork) == FAILED
    assert batch(*FILE, "--max-failed", "25%", network=FileNetwork) == DONE
    assert len(started) == 1


@pytest.mark.parametrize("weights", ["demo", "random"])
def test_bundled_and_random_weights_are_known(
    weights: str, batch: Batch, started: list[bool]
) -> None:
    from service.commands.batch.actors import local_network

    words = (*WORDS, "--model", "demo", "--weights", weights)
    assert batch(*words, network=local_network) == DONE
    assert batch(*words, network=local_network) == DONE
    assert len(started) == 1
