"""Checkpoints read from addresses, with what lies beside them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from model.remote.addresses import RemoteError
from model.remote.reading import read_weights
from model.zoo import create_model, load_model
from support.hub_server import HubServer, Repository
from support.published_weights import nano, saved

pytestmark = pytest.mark.slow


@pytest.fixture
def birds(hub: HubServer) -> Repository:
    repository = hub.repositories["owner/birds"] = Repository()
    return repository


@pytest.fixture(scope="module")
def weights() -> bytes:
    return safetensors.torch.save(nano(3).state_dict())


def test_a_path_is_read_as_ever(tmp_path: Path) -> None:
    (tmp_path / "m.pth").write_bytes(saved(nano(3).state_dict()))
    for given in (tmp_path / "m.pth", str(tmp_path / "m.pth")):
        checkpoint = read_weights(given)
        assert (checkpoint.path, checkpoint.source) == (tmp_path / "m.pth", None)


def test_a_model_of_a_hub_has_its_commit_classes_and_input(
    birds: Repository, weights: bytes, folder: Path
) -> None:
    config = {"label_names": ["wren", "rook", "jay"], "pretrained_cfg": {"crop_pct": 0.5}}
    commit = birds.commit(
        {"model.safetensors": weights, "config.json": json.dumps(config).encode()}
    )
    loaded = load_model(
        "demo", weights="hf://owner/birds/model.safetensors", pretrained_folder=folder
    )
    assert loaded.source == f"hf://owner/birds@{commit}/model.safetensors"
    assert loaded.weights == "model.safetensors"
    assert loaded.digest == hashlib.sha256(weights).hexdigest()
    assert loaded.labels == ("wren", "rook", "jay")
    assert loaded.input.sources["crop_pct"] == "checkpoint"
    network = create_model({}, weights="hf://owner/birds/model.safetensors")
    with torch.no_grad():
        images = torch.zeros(1, 3, 64, 64)
        assert torch.equal(network(images), loaded.network(images))


def test_a_cached_file_that_has_changed_is_refused_until_it_is_deleted(
    birds: Repository, weights: bytes
) -> None:
    birds.commit({"m.safetensors": weights})
    checkpoint = read_weights("hf://owner/birds/m.safetensors")
    blob = checkpoint.path.resolve()
    blob.write_bytes(weights[:-1] + b"\0")
    with pytest.raises(RemoteError, match=f"{blob} has changed since .* Delete it, and it is"):
        read_weights("hf://owner/birds/m.safetensors")
    blob.unlink()
    assert read_weights("hf://owner/birds/m.safetensors").digest == checkpoint.digest


def test_a_model_of_a_path_has_no_source(tmp_path: Path) -> None:
    (tmp_path / "m.pth").write_bytes(saved(nano(3).state_dict()))
    loaded = load_model("demo", weights=str(tmp_path / "m.pth"))
    assert (loaded.source, loaded.weights) == (None, str(tmp_path / "m.pth"))
