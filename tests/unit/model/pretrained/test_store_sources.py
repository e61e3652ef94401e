"""Every downloaded file, and every one copied by hand, is verified to the last entry."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from model.config import CLASSIFIERS
from model.heads.classifier import ImageClassifier
from model.pretrained.assets import PretrainedError
from model.pretrained.records import weights_path
from model.pretrained.store import ensure_cached, load_cached
from support.filled import filled
from support.published_weights import FILE, names_in, nano, saved
from support.release_server import ReleaseServer, without_length

pytestmark = pytest.mark.slow


def flipped(contents: bytes) -> bytes:
    damaged = bytearray(contents)
    damaged[len(damaged) // 2] ^= 1
    return bytes(damaged)


WRONG_FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "page": (lambda _: b"<!DOCTYPE html><html>Sign in</html>", "is a web page"),
    "truncated": (lambda contents: contents[:-1000], "is truncated or damaged"),
    "one bit": (flipped, "is damaged: the checksum of"),
    "empty": (lambda _: b"", "is empty"),
    "other classes": (lambda _: saved(nano(7).state_dict()), "has 7 classes, not 1000"),
    "other network": (
        lambda _: saved({"head.4.weight": torch.zeros(1000, 256, 1, 1)}),
        "does not fit the network",
    ),
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_a_wrong_file_is_refused_and_leaves_nothing(
    page: ReleaseServer, folder: Path, published: bytes, kind: str
) -> None:
    make, reason = WRONG_FILES[kind]
    page.files[FILE] = make(published)
    with pytest.raises(PretrainedError, match=reason) as refusal:
        ensure_cached("demo", folder)
    assert f"{page.url}/{FILE}" in str(refusal.value)
    assert names_in(folder) == {"demo.lock"}
    page.files[FILE] = published
    ensure_cached("demo", folder)


def test_a_truncated_file_of_unknown_length_is_refused(
    page: ReleaseServer, folder: Path, published: bytes
) -> None:
    page.files[FILE] = published[: len(published) // 2]
    page.script = [without_length]
    with pytest.raises(PretrainedError, match="is truncated or damaged"):
        ensure_cached("demo", folder)


def test_another_variants_file_is_refused(page: ReleaseServer, folder: Path) -> None:
    page.files["overlock_t_in1k_224.pth"] = page.files[FILE]
    with pytest.raises(
        PretrainedError, match=r"does not hold overlock_t's weights.*and [0-9]+ more"
    ):
        ensure_cached("overlock_t", folder)


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_a_wrong_file_brought_by_hand_is_refused_and_left_alone(
    page: ReleaseServer, folder: Path, tmp_path: Path, published: bytes, kind: str
) -> None:
    make, reason = WRONG_FILES[kind]
    source = tmp_path / FILE
    source.write_bytes(make(published))
    with pytest.raises(PretrainedError, match=reason) as refusal:
        ensure_cached("demo", folder, source=source)
    assert f"{source} does not hold the published weights of demo, {FILE}" in str(refusal.value)
    assert source.exists()
    assert names_in(folder) == {"demo.lock"}


def test_a_missing_file_by_hand_is_named(page: ReleaseServer, folder: Path) -> None:
    with pytest.raises(PretrainedError, match=r"There is no weights file nowhere\.pth"):
        ensure_cached("demo", folder, source=Path("nowhere.pth"))


def test_another_file_by_hand_than_the_kept_one_is_refused(
    page: ReleaseServer, folder: Path, tmp_path: Path, published: bytes
) -> None:
    ensure_cached("demo", folder)
    source = tmp_path / FILE
    source.write_bytes(flipped(published))
    with pytest.raises(PretrainedError, match=r"kept already, made from http.*To take it instead"):
        ensure_cached("demo", folder, source=source)
    with pytest.raises(PretrainedError, match="cannot be read"):
        ensure_cached("demo", folder, source=tmp_path / "nowhere.pth")


def test_a_file_brought_by_hand_is_taken_without_network(
    page: ReleaseServer, folder: Path, tmp_path: Path, published: bytes
) -> None:
    source = tmp_path / "from a stick.pth"
    source.write_bytes(published)
    record = ensure_cached("demo", folder, source=source)
    assert (record.source, record.source_file) == (str(source), source.name)
    assert page.asked == []
    assert source.read_bytes() == published
    assert ensure_cached("demo", folder, source=source) == record
    assert load_cached("demo", folder).digest == hashlib.sha256(published).hexdigest()


def test_a_kept_file_can_be_brought_to_another_machine(
    page: ReleaseServer, folder: Path, tmp_path: Path
) -> None:
    ensure_cached("demo", folder)
    there = tmp_path / "there"
    ensure_cached("demo", there, source=weights_path("demo", folder))
    assert_close(
        load_cached("demo", there).state, load_cached("demo", folder).state, rtol=0, atol=0
    )


def test_a_classifiers_merged_file_serves_too(
    page: ReleaseServer, folder: Path, tmp_path: Path
) -> None:
    merged = ImageClassifier(CLASSIFIERS["demo"].backbone, 1000, merged=True)
    source = tmp_path / "nano_reparam.pth"
    source.write_bytes(saved(filled(merged, torch.float32).state_dict()))
    ensure_cached("demo", folder, source=source)
    assert load_cached("demo", folder).merged
