"""Addresses of weights, their pinned forms, and what of them is shown."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from model.remote.addresses import (
    BucketAddress,
    HubAddress,
    RemoteError,
    WebAddress,
    check_address,
    is_address,
    parse_address,
    without_secrets,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHA256 = "ab" * 32


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf://owner/repo/m.bin", HubAddress("owner/repo", None, "m.bin")),
        ("hf://a-b/r.v1_2@v1.0/f/m.bin", HubAddress("a-b/r.v1_2", "v1.0", "f/m.bin")),
        (f"hf://o/r@{COMMIT}/m.bin", HubAddress("o/r", COMMIT, "m.bin")),
        ("hf://o/r@refs/pr/7/m.bin", HubAddress("o/r", "refs/pr/7", "m.bin")),
        ("hf://o/r@feature%2Fone/m.bin", HubAddress("o/r", "feature/one", "m.bin")),
        ("s3://bucket/a/m.pth", BucketAddress("s3", "bucket", "a/m.pth")),
        ("s3://b/m?versionId=1.x_-", BucketAddress("s3", "b", "m", version="1.x_-")),
        ("s3://b/m#etag=ab-3", BucketAddress("s3", "b", "m", etag="ab-3")),
        ("s3://b/m#etag=a%2Fb%3D", BucketAddress("s3", "b", "m", etag="a/b=")),
        ("s3://b/a?b#c", BucketAddress("s3", "b", "a?b#c")),
        ("gs://b/a b/m.pth", BucketAddress("gs", "b", "a b/m.pth")),
        ("gs://b/m#17012", BucketAddress("gs", "b", "m", version="17012")),
        (f"https://h/a/m.pth#sha256={SHA256}", WebAddress("https://h/a/m.pth", SHA256)),
        (f"HTTPS://h:8443/m#sha256={SHA256.upper()}", WebAddress("https://h:8443/m", SHA256)),
    ],
)
def test_an_address_is_read_and_can_be_given_again(
    text: str, address: HubAddress | BucketAddress | WebAddress
) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "pinned"),
    [
        (f"hf://o/r@{COMMIT}/m", True),
        ("hf://o/r@0123456/m", False),
        ("hf://o/r/m", False),
        ("s3://b/m", False),
        ("s3://b/m?versionId=x", True),
        ("s3://b/m#etag=x", True),
        ("gs://b/m#1", True),
        (f"https://h/m#sha256={SHA256}", True),
    ],
)
def test_an_address_is_pinned_if_it_names_one_version(text: str, pinned: bool) -> None:
    assert parse_address(text).is_pinned is pinned


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hf://owner/repo", "names no file in a model repository: give hf://owner/repo/file"),
        ("hf://repo", "names no file"),
        ("hf://datasets/owner/name/m.bin", "names no file in a model repository"),
        ("hf://o/r/a/../../m.bin", "leads out of its repository"),
        ("hf://o/r//m.bin", "leads out of its repository"),
        ("s3://bucket", "names no object: give s3://bucket/key"),
        ("gs://bucket/folder/", "names no object: give gs://bucket/key"),
        ("s3://ID:SECRET@bucket/key", "s3://bucket/key names no object"),
        ("http://h/m.pth", "http://h/m.pth is not fetched over HTTP"),
        ("https://h/m.pth", "needs the file's SHA-256.*give https://h/m.pth#sha256=DIGEST"),
        ("https://h/m.pth#sha256=abc", "needs the file's SHA-256"),
        ("https://h/m.pth#md5=" + "a" * 32, "needs the file's SHA-256"),
        (f"https://h#sha256={SHA256}", "names no file"),
        (f"https://h/folder/#sha256={SHA256}", "names no file"),
        (f"https:///m#sha256={SHA256}", "names no file"),
        ("ftp://h/m", "ftp://h/m is no address of weights: give hf://"),
    ],
)
def test_a_wrong_address_is_refused_with_its_form(text: str, message: str) -> None:
    with pytest.raises(RemoteError, match=message) as caught:
        parse_address(text)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pass@h/m?X-Sig=abc#sha256=00", "https://h/m#sha256=00"),
        ("https://h/m?a=1&versionId=2", "https://h/m"),
        ("s3://b/m?versionId=2", "s3://b/m?versionId=2"),
        ("s3://b/m?versionId=2&X-Sig=abc", "s3://b/m"),
        ("http://token@h/m", "http://h/m"),
        ("weights/a@b?c.pth", "weights/a@b?c.pth"),
        ("random", "random"),
    ],
)
def test_secrets_are_left_out(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_a_signed_address_shows_neither_user_nor_signature() -> None:
    address = parse_address(f"https://user:pass@h/a%20b.pth?Signature=x#sha256={SHA256}")
    assert str(address) == f"https://h/a%20b.pth#sha256={SHA256}"
    assert address.file_name == "a b.pth"
    assert isinstance(address, WebAddress)
    assert address.url == "https://user:pass@h/a%20b.pth?Signature=x"


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("hf://o/r/m", True),
        ("ftp://h/m", True),
        ("weights.pth", False),
        ("/s3:/b", False),
        (Path("hf://o/r/m"), False),
    ],
)
def test_what_has_a_scheme_is_an_address(weights: object, expected: bool) -> None:
    assert is_address(weights) is expected


@pytest.mark.parametrize(
    ("address", "package", "extra"),
    [
        ("hf://o/r/m", "huggingface_hub", "hub"),
        ("s3://b/m", "s3fs", "cloud"),
        ("gs://b/m", "gcsfs", "cloud"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    address: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_address(address)
    monkeypatch.setattr(
        "model.remote.addresses.find_spec",
        lambda name: None if name == package else find_spec(name),
    )
    with pytest.raises(RemoteError) as caught:
        check_address(address)
    assert str(caught.value) == (
        f"{address} needs the package {package}: install the extra {extra}: "
        f"pip install 'overlock-service[{extra}]', or uv tool install 'overlock-service[{extra}]'."
    )


def test_https_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.remote.addresses.find_spec", lambda name: None)
    address = check_address(f"https://h/m#sha256={'a' * 64}")
    assert address.is_pinned
