"""The command as a function, with a store that keeps some weights."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model.pretrained import store
from model.pretrained.assets import PretrainedError
from model.pretrained.records import Record
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
