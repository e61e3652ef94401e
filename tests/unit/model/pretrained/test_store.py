"""Published weights are fetched once, checked to the last entry, and the same ever after."""

from __future__ import annotations

import hashlib
import io
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.testing import assert_close

from model.config import CLASSIFIERS
from model.heads.classifier import ImageClassifier
from model.pretrained import assets, store, transfer
from model.pretrained.assets import PretrainedError, asset_of
from model.pretrained.partial_file import PartialDownload
from model.pretrained.records import record_path, weights_path
from model.pretrained.store import ensure_cached, load_cached, verify_cached
from model.zoo import create_model, load_model
from support.checkpoints import official_state
from support.filled import filled, random_map
from support.release_server import (
    ReleaseServer,
    answer_with,
    drop_after,
    hold_after,
    without_length,
)

FILE = "nano.pth"
INJECTION = Path(__file__).parents[3] / "release_injection"


def saved(state: dict[str, Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def nano(classes: int = 1000) -> ImageClassifier:
    return filled(ImageClassifier(CLASSIFIERS["demo"].backbone, classes), torch.float32)


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


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


KEPT = {"demo.safetensors", "demo.json", "demo.lock"}


def test_weights_are_downloaded_once_and_are_those_of_the_file(
    page: ReleaseServer, folder: Path, network: ImageClassifier, published: bytes
) -> None:
    images = random_map(1, 3, 64, 64, dtype=torch.float32)
    for _ in range(2):
        loaded = load_model("demo", weights="pretrained", fused=False, pretrained_folder=folder)
        assert_close(loaded.network(images), network(images), rtol=0, atol=0)
        assert loaded.weights == FILE
        assert loaded.digest == hashlib.sha256(published).hexdigest()
    assert len(page.asked) == 1
    assert names_in(folder) == KEPT


def test_the_record_says_where_from_and_both_digests(
    page: ReleaseServer, folder: Path, published: bytes
) -> None:
    record = ensure_cached("demo", folder)
    assert json.loads((folder / "demo.json").read_text()) == {
        "model": "demo",
        "source": f"{page.url}/{FILE}",
        "source_file": FILE,
        "source_sha256": hashlib.sha256(published).hexdigest(),
        "sha256": hashlib.sha256((folder / "demo.safetensors").read_bytes()).hexdigest(),
        "kept_on": record.kept_on,
    }
    verify_cached(record, folder)


def test_the_authors_own_format_is_converted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = official_state("overlock_xt")
    with ReleaseServer({"overlock_xt_in1k_224.pth": saved(state)}) as page:
        monkeypatch.setattr(assets, "RELEASE_URL", page.url)
        loaded = load_model(
            "overlock_xt", weights="pretrained", fused=False, pretrained_folder=folder
        )
    kept = loaded.network.state_dict()
    assert_close(kept["head.classify.weight"], state["head.4.weight"], rtol=0, atol=0)
    assert len(loaded.labels) == 1000
    assert loaded.weights == "overlock_xt_in1k_224.pth"


def test_an_interrupted_download_goes_on(page: ReleaseServer, folder: Path) -> None:
    page.script = [drop_after(1_000_000)]
    ensure_cached("demo", folder)
    assert [asked.range for asked in page.asked] == [None, "bytes=1000000-"]
    assert names_in(folder) == KEPT


def test_a_changed_file_is_refused_until_it_is_deleted(page: ReleaseServer, folder: Path) -> None:
    record = ensure_cached("demo", folder)
    path = weights_path("demo", folder)
    contents = bytearray(path.read_bytes())
    contents[-1] ^= 1  # still an intact safetensors file with the right entries
    path.write_bytes(contents)
    message = r"has changed since .* its SHA-256 was \w{64} and is \w{64}.* overlock download demo"
    with pytest.raises(PretrainedError, match=message):
        create_model("demo", weights="pretrained", pretrained_folder=folder)
    with pytest.raises(PretrainedError, match=message):
        verify_cached(record, folder)
    path.unlink()
    assert ensure_cached("demo", folder) == record
    load_cached("demo", folder)


def test_another_file_under_the_same_url_is_refused_until_its_record_is_deleted(
    page: ReleaseServer, folder: Path
) -> None:
    ensure_cached("demo", folder)
    weights_path("demo", folder).unlink()
    other = nano()
    torch.nn.init.zeros_(other.head.classify.weight)
    page.files[FILE] = saved(other.state_dict())
    with pytest.raises(PretrainedError, match="is not the file that was trusted"):
        ensure_cached("demo", folder)
    assert not weights_path("demo", folder).exists()
    record_path("demo", folder).unlink()
    asked = len(page.asked)
    ensure_cached("demo", folder)
    assert len(page.asked) == asked  # what was downloaded serves
    assert_close(load_cached("demo", folder).state["head.classify.weight"].abs().sum().item(), 0.0)


def flipped(contents: bytes) -> bytes:
    damaged = bytearray(contents)
    damaged[len(damaged) // 2] ^= 1
    return bytes(damaged)


WRONG_FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "page": (lambda _: b"<!DOCTYPE html><html>Sign in</html>", "run code of its own, or it is"),
    "truncated": (lambda contents: contents[:-1000], "truncated or no PyTorch checkpoint"),
    "one bit": (flipped, "is damaged: the checksum of"),
    "empty": (lambda _: b"", "truncated or no PyTorch checkpoint"),
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
    with pytest.raises(PretrainedError, match="truncated or no PyTorch checkpoint"):
        ensure_cached("demo", folder)


def test_another_variants_file_is_refused(page: ReleaseServer, folder: Path) -> None:
    page.files["overlock_t_in1k_224.pth"] = page.files[FILE]
    with pytest.raises(
        PretrainedError, match=r"does not hold overlock_t's weights.*and [0-9]+ more"
    ):
        ensure_cached("overlock_t", folder)


def test_a_record_that_may_not_be_read_is_no_reason_to_delete_it(
    page: ReleaseServer, folder: Path
) -> None:
    record_path("demo", folder).mkdir(parents=True)
    with pytest.raises(PretrainedError, match=r"record of demo's weights cannot be read: .*Is a d"):
        ensure_cached("demo", folder)


def test_what_is_not_there_is_said_with_the_url_and_the_way_by_hand(
    page: ReleaseServer, folder: Path
) -> None:
    page.script = [answer_with(404)]
    with pytest.raises(PretrainedError) as refusal:
        create_model("demo", weights="pretrained", pretrained_folder=folder)
    assert str(refusal.value) == (
        f"demo's weights could not be downloaded from {page.url}/{FILE}: 404 Not Found. "
        "The next attempt resumes this one. By hand: copy that file here, and run: "
        "overlock download demo --from nano.pth"
    )


def test_a_full_disk_is_said_and_the_download_is_kept(
    page: ReleaseServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(entries: dict[str, Tensor], path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(store, "save_file", fill)
        with pytest.raises(PretrainedError, match=r"cannot be kept in .*No space left.*Make room"):
            ensure_cached("demo", folder)
    assert names_in(folder) == {"demo.lock", f"{FILE}.part", f"{FILE}.part.json"}
    ensure_cached("demo", folder)
    assert len(page.asked) == 1
    assert names_in(folder) == KEPT


def test_a_folder_that_cannot_be_written_is_named(page: ReleaseServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PretrainedError, match=r"cannot be kept in .*file/weights: .*Not a dir"):
        ensure_cached("demo", tmp_path / "file" / "weights")


def test_kept_weights_need_neither_network_nor_a_disk_that_can_be_written(
    page: ReleaseServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_cached("demo", folder)
    page.files.clear()
    before = {path: path.stat().st_mtime_ns for path in (folder, *folder.iterdir())}
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: pytest.fail("it writes"))
    ensure_cached("demo", folder)
    load_cached("demo", folder)
    assert {path: path.stat().st_mtime_ns for path in (folder, *folder.iterdir())} == before


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


@pytest.mark.parametrize("contents", ["{", "[]", '{"model": 1}', '{"model": "demo"}'])
def test_a_damaged_record_is_refused(page: ReleaseServer, folder: Path, contents: str) -> None:
    ensure_cached("demo", folder)
    record_path("demo", folder).write_text(contents)
    with pytest.raises(PretrainedError, match=r"record .*demo\.json is damaged.*Delete it"):
        ensure_cached("demo", folder)


def test_weights_without_a_record_are_not_trusted(page: ReleaseServer, folder: Path) -> None:
    folder.mkdir(parents=True)
    weights_path("demo", folder).write_bytes(b"left by nobody knows whom")
    with pytest.raises(PretrainedError, match="are not in"):
        load_cached("demo", folder)
    ensure_cached("demo", folder)
    load_cached("demo", folder)


def test_a_classifiers_merged_file_serves_too(
    page: ReleaseServer, folder: Path, tmp_path: Path
) -> None:
    merged = ImageClassifier(CLASSIFIERS["demo"].backbone, 1000, merged=True)
    source = tmp_path / "nano_reparam.pth"
    source.write_bytes(saved(filled(merged, torch.float32).state_dict()))
    ensure_cached("demo", folder, source=source)
    assert load_cached("demo", folder).merged


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cascade_mask_rcnn_overlock_t", "published no weights of cascade_mask_rcnn_overlock_t"),
        ("upernet_overlock_xt", "published no weights of upernet_overlock_xt"),
        ("demo", "brings its own weights"),
    ],
)
def test_what_was_not_published_is_refused_with_what_was(
    tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(PretrainedError, match=f"{reason}.*There are .*mask_rcnn_overlock_b"):
        create_model(name, weights="pretrained", pretrained_folder=tmp_path)


def test_every_published_file_is_of_a_model_that_there_is() -> None:
    for name in assets.ASSETS:
        assert asset_of(name).url.startswith("https://github.com/LMMMEng/OverLoCK/releases/")
    assert asset_of("overlock_xt").file == "overlock_xt_in1k_224.pth"
    assert asset_of("upernet_overlock_s").file == "upernet_overlock_small_ade20k.pth"
    assert asset_of("mask_rcnn_overlock_b").file == "maskrcnn3x_overlock_base_coco.pth"
    assert len(assets.ASSETS) == 10


class Downloader:
    """``overlock download demo`` in a process of its own."""

    def __init__(self, page: ReleaseServer, cache: Path) -> None:
        paths = [str(INJECTION), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service.commands.download", "demo", "--cache-dir", str(cache)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "TEST_RELEASE_URL": page.url,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> tuple[int, str, str]:
        output, errors = self.process.communicate(timeout=60)
        return self.process.returncode, output, errors


def test_of_two_processes_one_downloads_and_the_other_waits(
    page: ReleaseServer, folder: Path
) -> None:
    page.script = [hold_after(1_000_000)]
    downloaders = [Downloader(page, folder.parent) for _ in range(2)]
    assert page.held.acquire(timeout=60)
    lines = ""
    waiting = "Another process is fetching demo's weights; waiting for it.\n"
    # One of them says so as soon as it gets to the lock; the other holds it.
    with selectors.DefaultSelector() as selector:
        for each in downloaders:
            assert each.process.stderr is not None
            selector.register(each.process.stderr, selectors.EVENT_READ)
        while waiting not in lines:
            for key, _ in selector.select(60):
                lines += key.fileobj.readline()  # type: ignore[union-attr]
    page.release.set()
    outcomes = [each.finish() for each in downloaders]
    assert [code for code, _, _ in outcomes] == [0, 0]
    assert {output for _, output, _ in outcomes} == {f"{weights_path('demo', folder)}\n"}
    assert [asked.range for asked in page.asked] == [None, "bytes=1000000-"]
    assert names_in(folder) == KEPT


def test_after_a_killed_download_the_next_goes_on(page: ReleaseServer, folder: Path) -> None:
    page.script = [hold_after(2_000_000)]
    first = Downloader(page, folder.parent)
    assert page.held.acquire(timeout=60)
    part = PartialDownload(folder / f"{FILE}.part")
    while part.done_bytes < 1_000_000:  # the rest may still be on its way
        assert first.process.poll() is None
    first.process.send_signal(signal.SIGKILL)
    assert first.finish()[0] == -signal.SIGKILL
    there = part.done_bytes
    ensure_cached("demo", folder)
    assert page.asked[-1].range == f"bytes={there}-"
    assert there >= 1_000_000
    load_cached("demo", folder)
