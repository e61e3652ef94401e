"""Published weights are downloaded once, and are the same ever after."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.testing import assert_close

from model.heads.classifier import ImageClassifier
from model.pretrained import assets, store
from model.pretrained.assets import PretrainedError
from model.pretrained.records import record_path, weights_path
from model.pretrained.store import ensure_cached, load_cached, verify_cached
from model.zoo import create_model, load_model
from support.checkpoints import official_state
from support.filled import random_map
from support.published_weights import FILE, KEPT, names_in, nano, saved
from support.release_server import ReleaseServer, answer_with, drop_after

pytestmark = pytest.mark.slow


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
