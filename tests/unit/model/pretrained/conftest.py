"""A server of published weights, and a cache folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from model.heads.classifier import ImageClassifier
from model.pretrained import assets, transfer
from support.published_weights import FILE, nano, saved
from support.release_server import ReleaseServer


@pytest.fixture(scope="module")
def network() -> ImageClassifier:
    return nano()


@pytest.fixture(scope="module")
def published(network: ImageClassifier) -> bytes:
    return saved(network.state_dict())


@pytest.fixture
def page(published: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReleaseServer]:
    with ReleaseServer({FILE: published}) as page:
        monkeypatch.setattr(assets, "RELEASE_URL", page.url)
        monkeypatch.setitem(assets.ASSETS, "demo", FILE)
        retries = transfer.Retries(sleep=lambda _: None)
        monkeypatch.setattr(transfer, "Retries", lambda: retries)
        yield page


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "weights"
