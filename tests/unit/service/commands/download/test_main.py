"""The command as a function, with a store that keeps some weights."""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model.pretrained import store
from model.pretrained.assets import PretrainedError
from model.pretrained.records import Record
from model.remote.addresses import RemoteError
from model.remote.cache import RemoteWeights
from service.commands.download import __main__

Download = Callable[..., object]


@pytest.fixture
def download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Download:
    """Call the command and return its exit code; only overlock_t and overlock_s can be had."""

    def ensure_cached(name: str, folder: Path, *, source: Path | None) -> Record:
        if name not in {"overlock_t", "overlock_s"}:
            raise PretrainedError(f"No {name}:\nit is gone.")
        return Record(name, "url", "file", "0", "0", "2025-01-31")

    monkeypatch.setattr(store, "ensure_cached", ensure_cached)
    monkeypatch.setattr(store, "verify_cached", lambda *_: None)

    def call(*words: str) -> object:
        monkeypatch.setattr(sys, "argv", ["download", *words, "--cache-dir", str(tmp_path)])
        with pytest.raises(SystemExit) as end:
            __main__.main()
        return end.value.code

    return call


def test_all_names_that_came_are_done(
    download: Download, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert download("overlock_t", "overlock_s") == 0
    kept = [tmp_path / "weights" / f"overlock_{size}.safetensors" for size in ("t", "s")]
    assert capsys.readouterr() == ("".join(f"{path}\n" for path in kept), "")


def test_some_names_that_failed_are_a_failure(
    download: Download, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download("overlock_b", "overlock_t") == 1
    written = capsys.readouterr()
    assert len(written.out.splitlines()) == 1
    assert written.err == "overlock download: No overlock_b: it is gone.\n"


@pytest.mark.parametrize("names", [("overlock_b",), ("overlock_b", "overlock_xt")])
def test_nothing_that_came_is_nothing_done(download: Download, names: tuple[str, ...]) -> None:
    assert download(*names) == 2


def test_one_file_for_two_names_is_nothing_done(
    download: Download, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download("overlock_t", "overlock_s", "--from", "x.pth") == 2
    assert capsys.readouterr() == ("", "overlock download: --from FILE is for one NAME.\n")


def test_ctrl_c_says_that_the_download_can_be_resumed(
    download: Download, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupted(*_: object, **__: object) -> Record:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "ensure_cached", interrupted)
    caplog.set_level("INFO")
    assert download("overlock_t") == 130
    assert caplog.messages[-1] == "Stopped. The same command resumes the download."


PINNED = "s3://b/m.pth?versionId=1"


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let addresses be fetched to a file, unless they are of the bucket "gone"."""

    def fetch(address: str, folder: Path) -> RemoteWeights:
        assert folder == tmp_path / "weights"
        if address.startswith("s3://gone/"):
            raise RemoteError(f"{address} is not there.")
        return RemoteWeights(tmp_path / "m.pth", PINNED, None)

    monkeypatch.setattr(__main__, "fetch", fetch)
    return tmp_path / "m.pth"


def test_an_address_is_fetched_and_its_pinned_form_is_said(
    download: Download,
    fetched: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    fetched.write_bytes(b"\x80\x02")
    assert download("s3://b/m.pth", "overlock_t") == 0
    assert capsys.readouterr().out.splitlines()[0] == str(fetched)
    digest = hashlib.sha256(b"\x80\x02").hexdigest()
    assert f"{PINNED} has the SHA-256 {digest}." in caplog.messages


def test_a_file_that_is_no_checkpoint_is_said_to_be_none(
    download: Download, fetched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched.write_bytes(b"<html>")
    assert download("s3://b/m.pth") == 2
    assert capsys.readouterr().err == (
        f"overlock download: {PINNED} is fetched, but no use: {fetched} is a web page, not a "
        "weights file; download the file itself.\n"
    )


def test_an_address_that_fails_stops_no_other(
    download: Download, fetched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download("s3://gone/m.pth", "overlock_t") == 1
    assert capsys.readouterr().err == "overlock download: s3://gone/m.pth is not there.\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("http://h/m.pth",), "NAME: http://h/m.pth is not fetched over HTTP"),
        (("s3://b/m.pth", "--from", "m.pth"), "--from FILE is for a NAME"),
    ],
)
def test_a_wrong_address_is_refused(
    download: Download, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download(*words) == 2
    assert message in capsys.readouterr().err
