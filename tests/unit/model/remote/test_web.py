"""Weights on a web server, over real TLS."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from model.pretrained import transfer
from model.pretrained.progress import ShowProgress
from model.remote.addresses import RemoteError, WebAddress, parse_address
from model.remote.cache import RemoteWeights
from model.remote.web import fetch_from_web
from support.release_server import ReleaseServer, answer_with, drop_after, redirect
from support.tls import certificate

WEIGHTS = b"weights" * 1000
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


def silent(_: str) -> nullcontext[ShowProgress]:
    return nullcontext(lambda done, total: None)


def fetch(text: str, folder: Path) -> RemoteWeights:
    address = parse_address(text)
    assert isinstance(address, WebAddress)
    return fetch_from_web(address, folder, silent)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReleaseServer]:
    path, context = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    retries = transfer.Retries(sleep=lambda _: None)
    monkeypatch.setattr(transfer, "Retries", lambda: retries)
    with ReleaseServer({"birds.pth": WEIGHTS}, tls=context) as page:
        yield page


def test_a_file_with_the_right_digest_is_kept_and_asked_for_once(
    page: ReleaseServer, folder: Path
) -> None:
    fetched = fetch(f"{page.url}/birds.pth#sha256={DIGEST}", folder)
    assert fetched.path.read_bytes() == WEIGHTS
    assert fetched.path.name == "birds.pth"
    assert (fetched.source, fetched.sha256) == (f"{page.url}/birds.pth#sha256={DIGEST}", DIGEST)
    assert fetch(f"{page.url}/birds.pth#sha256={DIGEST.upper()}", folder) == fetched
    assert len(page.asked) == 1
    assert [path.name for path in fetched.path.parent.iterdir()] == ["birds.pth"]


def test_a_file_with_another_digest_is_neither_used_nor_kept(
    page: ReleaseServer, folder: Path
) -> None:
    with pytest.raises(RemoteError, match=f"has another SHA-256, {DIGEST}. It was deleted."):
        fetch(f"{page.url}/birds.pth#sha256={'0' * 64}", folder)
    assert [path for path in folder.rglob("*") if path.name.startswith("birds")] == []


def test_an_interrupted_download_is_resumed(page: ReleaseServer, folder: Path) -> None:
    page.script = [drop_after(3000)]
    assert fetch(f"{page.url}/birds.pth#sha256={DIGEST}", folder).path.read_bytes() == WEIGHTS
    assert [asked.range for asked in page.asked] == [None, "bytes=3000-"]


def test_a_redirect_to_http_is_refused(page: ReleaseServer, folder: Path) -> None:
    page.script = [redirect("http://files.example/birds.pth?Signature=secret")]
    with pytest.raises(
        RemoteError, match=r"leads to http://files\.example, which is no HTTPS"
    ) as no:
        fetch(f"{page.url}/birds.pth#sha256={DIGEST}", folder)
    assert "secret" not in str(no.value)


def test_a_certificate_that_is_not_trusted_is_refused(
    page: ReleaseServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(RemoteError, match=r"127\.0\.0\.1: .*certificate verify failed"):
        fetch(f"{page.url}/birds.pth#sha256={DIGEST}", folder)


def test_neither_password_nor_signature_is_shown(
    page: ReleaseServer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # as every command has it
    signed = page.url.replace("//", "//user:secret-1@") + "/birds.pth?Signature=secret-2"
    page.script = [answer_with(403)]
    with pytest.raises(RemoteError) as refused:
        fetch(f"{signed}#sha256={DIGEST}", folder)
    assert str(refused.value) == (
        f"{page.url}/birds.pth#sha256={DIGEST} cannot be downloaded: 403 Forbidden. The next "
        "attempt resumes this one."
    )
    fetched = fetch(f"{signed}#sha256={DIGEST}", folder)
    assert page.asked[-1].path.endswith("?Signature=secret-2")
    everything = [caplog.text, fetched.source]
    everything += [path.read_text("utf-8") for path in folder.glob("*.json")]
    assert not any("secret" in text for text in everything)
    # The next signature finds the same file.
    assert fetch(f"{page.url}/birds.pth?Signature=secret-3#sha256={DIGEST}", folder) == fetched
