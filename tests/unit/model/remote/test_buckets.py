"""Weights in buckets: S3 by moto's server, Google Cloud Storage by a small one of its API."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from model.pretrained.progress import ShowProgress
from model.remote.addresses import BucketAddress, RemoteError, parse_address
from model.remote.buckets import fetch_from_bucket
from model.remote.cache import RemoteWeights
from support.object_store import ObjectStore
from support.s3_store import s3_store

pytestmark = pytest.mark.slow

SECRET = "the-secret-key-of-the-tests"
WEIGHTS = b"weights" * 1000


def silent(_: str) -> nullcontext[ShowProgress]:
    return nullcontext(lambda done, total: None)


def fetch(text: str, folder: Path) -> RemoteWeights:
    address = parse_address(text)
    assert isinstance(address, BucketAddress)
    return fetch_from_bucket(address, folder, silent)


def said(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """Return what was logged from a level on, but for moto's own lines."""
    return [
        each.getMessage()
        for each in caplog.records
        if each.name != "werkzeug" and each.levelno >= level
    ]


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with s3_store() as address:
        yield address


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)


@pytest.fixture
def s3(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    client = boto3.client("s3", config=Config(retries={"max_attempts": 0}))
    client.create_bucket(Bucket="plain")
    yield client
    for entry in client.list_objects_v2(Bucket="plain").get("Contents", []):
        client.delete_object(Bucket="plain", Key=entry["Key"])
    client.close()


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with ObjectStore() as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        yield store


def test_an_object_is_pinned_to_its_etag_and_kept(s3: Any, folder: Path) -> None:
    s3.put_object(Bucket="plain", Key="a/birds.pth", Body=WEIGHTS)
    fetched = fetch("s3://plain/a/birds.pth", folder)
    assert fetched.source == f"s3://plain/a/birds.pth#etag={hashlib.md5(WEIGHTS).hexdigest()}"
    assert fetched.path.name == "birds.pth"
    assert fetched.path.read_bytes() == WEIGHTS
    assert fetched.sha256 == hashlib.sha256(WEIGHTS).hexdigest()


def test_an_object_in_a_versioned_bucket_is_pinned_to_its_version(s3: Any, folder: Path) -> None:
    s3.create_bucket(Bucket="versions")
    s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket="versions", Key="m.pth", Body=WEIGHTS)["VersionId"]
    fetched = fetch("s3://versions/m.pth", folder)
    assert fetched.source == f"s3://versions/m.pth?versionId={first}"
    second = s3.put_object(Bucket="versions", Key="m.pth", Body=b"newer")["VersionId"]
    newer = fetch("s3://versions/m.pth", folder)
    assert newer.source == f"s3://versions/m.pth?versionId={second}"
    assert newer.path.read_bytes() == b"newer"
    assert fetched.path.read_bytes() == WEIGHTS
    # An older version is fetched as it was, also where it is not kept.
    elsewhere = folder.with_name("elsewhere")
    assert fetch(fetched.source, elsewhere).path.read_bytes() == WEIGHTS


def test_what_is_pinned_and_kept_asks_nobody(
    s3: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_object(Bucket="plain", Key="m.pth", Body=WEIGHTS)
    fetched = fetch("s3://plain/m.pth", folder)
    monkeypatch.setattr("model.remote.buckets._file_system", lambda scheme: pytest.fail(scheme))
    assert fetch(fetched.source, folder) == fetched


def test_an_etag_that_is_gone_is_refused(s3: Any, folder: Path) -> None:
    s3.put_object(Bucket="plain", Key="m.pth", Body=WEIGHTS)
    now = hashlib.md5(WEIGHTS).hexdigest()
    with pytest.raises(RemoteError, match=f"m.pth#etag=0a is gone: .* ETag is {now} now"):
        fetch("s3://plain/m.pth#etag=0a", folder)


def test_an_object_that_is_replaced_meanwhile_is_not_kept(
    s3: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_object(Bucket="plain", Key="m.pth", Body=WEIGHTS)

    def replace(_: str) -> nullcontext[ShowProgress]:
        s3.put_object(Bucket="plain", Key="m.pth", Body=b"another")
        return silent("")

    with pytest.raises(RemoteError, match="is gone: the object's ETag is"):
        fetch_from_bucket(BucketAddress("s3", "plain", "m.pth"), folder, replace)
    assert [path for path in folder.rglob("*") if path.name.startswith("m.pth")] == []


def test_while_the_store_is_down_the_last_version_is_used(
    s3: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    s3.put_object(Bucket="plain", Key="m.pth", Body=WEIGHTS)
    fetched = fetch("s3://plain/m.pth", folder)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert fetch("s3://plain/m.pth", folder) == fetched
    assert said(caplog) == [
        f"{fetched.source} is used, which s3://plain/m.pth was last, because its store cannot be "
        "reached (EndpointConnectionError)."
    ]
    with pytest.raises(RemoteError, match=r"s3://plain/o\.pth cannot be fetched, and is not kept"):
        fetch("s3://plain/o.pth", folder)


def test_a_download_that_fails_leaves_nothing(
    s3: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_object(Bucket="plain", Key="m.pth", Body=WEIGHTS)

    def fill_the_disk(self: object, rpath: str, lpath: str, **_: Any) -> None:
        Path(lpath).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("s3fs.S3FileSystem.get_file", fill_the_disk)
    with pytest.raises(RemoteError, match=r"cannot be kept in .*No space left.*Make room there"):
        fetch("s3://plain/m.pth", folder)
    assert [*folder.rglob("m.pth*")] == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://plain/none.pth", "is not there: bucket plain has no object none.pth."),
        ("s3://no-bucket/m.pth", "is not there: there is no bucket no-bucket."),
        ("s3://plain/runs", "s3://plain/runs is a folder: give the key of a file."),
        ("s3://A/m.pth", "s3://A/m.pth "),
    ],
)
def test_what_is_missing_is_named(s3: Any, folder: Path, address: str, message: str) -> None:
    s3.put_object(Bucket="plain", Key="runs/m.pth", Body=WEIGHTS)
    with pytest.raises(RemoteError) as caught:
        fetch(address, folder)
    assert message in str(caught.value)


def test_without_credentials_they_are_named(
    s3: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(RemoteError, match=r"are there credentials, .*AWS_ACCESS_KEY_ID and"):
        fetch("s3://plain/m.pth", folder)


@pytest.mark.parametrize(
    ("scheme", "status", "code", "message"),
    [
        ("s3", 403, "SignatureDoesNotMatch", "access is denied, .*AWS_ACCESS_KEY_ID"),
        ("s3", 400, "ExpiredToken", "status 400, as with credentials that have expired"),
        ("s3", 503, "SlowDown", r"cannot be reached \(it answers with status 503\)"),
        ("gs", 401, "nope", "access is denied, .*GOOGLE_APPLICATION_CREDENTIALS"),
        ("gs", 403, "nope", "access is denied, .*GOOGLE_APPLICATION_CREDENTIALS"),
        ("gs", 404, "nope", "bucket plain, if there is one, has no object m.pth"),
        ("gs", 503, "nope", r"cannot be reached \(it answers with status 503\)"),
    ],
)
def test_a_refusal_is_one_sentence(
    google: ObjectStore,
    folder: Path,
    scheme: str,
    status: int,
    code: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def at_once(_: float) -> None: ...

    monkeypatch.setattr("gcsfs.retry.asyncio.sleep", at_once)
    monkeypatch.setenv("AWS_ENDPOINT_URL", google.url)
    google.status, google.code = status, code
    with pytest.raises(RemoteError, match=message) as caught:
        fetch(f"{scheme}://plain/m.pth", folder)
    assert len(str(caught.value).splitlines()) == 1
    assert SECRET not in str(caught.value) + caplog.text
    assert said(caplog) == []


def test_an_object_of_google_is_pinned_to_its_generation(
    google: ObjectStore, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    google.objects["plain/a/m.pth"] = {"17": b"older", "18": WEIGHTS}
    fetched = fetch("gs://plain/a/m.pth", folder)
    assert fetched.source == "gs://plain/a/m.pth#18"
    assert fetched.path.read_bytes() == WEIGHTS
    assert fetch("gs://plain/a/m.pth#17", folder).path.read_bytes() == b"older"
    assert said(caplog, logging.INFO)[0] == (
        f"Downloading gs://plain/a/m.pth#18 to {fetched.path.parent}."
    )
    google.stop()
    assert fetch("gs://plain/a/m.pth#18", folder) == fetched


def test_progress_is_reported_up_to_the_whole_object(s3: Any, folder: Path) -> None:
    s3.put_object(Bucket="plain", Key="m.pth", Body=WEIGHTS)
    seen: list[tuple[int, int | None]] = []

    def show(name: str) -> nullcontext[ShowProgress]:
        assert name == "m.pth"
        return nullcontext(lambda done, total: seen.append((done, total)))

    fetch_from_bucket(BucketAddress("s3", "plain", "m.pth"), folder, show)
    assert seen[-1] == (len(WEIGHTS), len(WEIGHTS))
