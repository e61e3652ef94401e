"""Weights in a bucket: S3 and stores that speak its language, and Google Cloud Storage.

Credentials, regions and endpoints are those of the libraries: ``AWS_*`` and the files in
``~/.aws``, ``GOOGLE_APPLICATION_CREDENTIALS``, the machine's role, fsspec's own configuration.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.pretrained.progress import Progress
from model.remote.addresses import BucketAddress, RemoteError
from model.remote.bucket_errors import UnreachableError, in_words
from model.remote.cache import RemoteWeights, find_kept, keep

_CHATTY = ("gcsfs", "google.auth", "botocore", "aiobotocore", "s3fs")

logger = logging.getLogger(__name__)


def fetch_from_bucket(address: BucketAddress, folder: Path, show: Progress) -> RemoteWeights:
    """Download an object unless it is kept.

    The current version of an object is looked up each time. While the bucket cannot be reached, the
    version that was found last is used, and a warning says so.

    Raises:
        RemoteError: if there is no such object, the credentials may not read it, or the bucket
            cannot be reached and the version is not kept.
    """
    kept = find_kept(address, folder)
    if kept is not None and address.is_pinned:
        return kept
    try:
        with _quiet():
            with in_words(address):
                files = _file_system(address.scheme)
            pinned = _look_up(files, address)
            return keep(address, pinned, folder, lambda part: _download(files, pinned, part, show))
    except UnreachableError as error:
        if kept is None:
            raise RemoteError(
                f"{address} cannot be fetched, and is not kept in {folder}: {error}."
            ) from error
        logger.warning("%s is used, which %s was last, because %s.", kept.source, address, error)
        return kept


def _file_system(scheme: str) -> Any:
    """Return a file system of fsspec, which knows an object's versions and remembers nothing."""
    if scheme == "s3":
        from s3fs import S3FileSystem as FileSystem
    else:
        # Without the storage-control service, which only folders need.
        from gcsfs.core import GCSFileSystem as FileSystem
    return FileSystem(version_aware=True, use_listings_cache=False, skip_instance_cache=True)


def _look_up(files: Any, address: BucketAddress) -> BucketAddress:
    """Return the address of one version: the one that was asked for, else the current one."""
    path, options = _object(address)
    with in_words(address):
        facts = files.info(path, **options)
    if facts["type"] != "file":
        raise RemoteError(f"{address} is a folder: give the key of a file.")
    version = facts.get("VersionId" if address.scheme == "s3" else "generation")
    etag = str(facts.get("ETag", "")).strip('"')
    if address.etag not in {None, etag}:
        raise RemoteError(f"{address} is gone: the object's ETag is {etag} now.")
    if address.version not in {None, version}:
        raise RemoteError(f"{address} is gone: the object's version is {version} now.")
    if address.is_pinned:
        return address
    if version in {None, "null"}:  # a bucket without versions, or an object older than they
        return replace(address, etag=etag)
    return replace(address, version=version)


def _object(address: BucketAddress) -> tuple[str, dict[str, str]]:
    """Return an object's path and options as fsspec takes them."""
    if address.version is None:
        return address.path, {}
    if address.scheme == "s3":
        return address.path, {"version_id": address.version}
    # gcsfs has an option too, which it forgets where it looks an object up.
    return f"{address.path}#{address.version}", {}


def _download(files: Any, pinned: BucketAddress, part: Path, show: Progress) -> None:
    from fsspec.callbacks import Callback

    path, options = _object(pinned)
    try:
        with show(pinned.file_name) as report, in_words(pinned):

            def progress(size: int | None, value: int, **_: Any) -> None:
                report(value, size)

            files.get_file(path, str(part), callback=Callback(hooks={"": progress}), **options)
        if pinned.version is None:
            # Nothing but the ETag tells whether the object was replaced meanwhile.
            _look_up(files, pinned)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries from logging tracebacks of what is said here in one sentence."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
