"""Objects in buckets, by fsspec: listing, reading and writing; errors in one sentence each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import fsspec

from model.remote.addresses import BucketAddress, RemoteError, check_address
from model.remote.bucket_errors import UnreachableError, in_words
from service.commands.batch.items import ImageItem
from service.commands.console.exits import RefusedError

_BUCKET = re.compile(r"(s3|gs)://[^/]+", re.IGNORECASE)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_bucket(name: str) -> bool:
    """Tell whether a name is an address in a bucket."""
    return _BUCKET.match(name) is not None


def check_place(name: str) -> None:
    """Refuse an address of anything but a bucket, which would be taken for a path.

    Raises:
        RefusedError: if it is one.
    """
    if _ADDRESS.match(name) and not is_bucket(name):
        raise RefusedError(
            f"{name} is no address of a bucket; those are s3://BUCKET/KEY and gs://BUCKET/KEY."
        )


@lru_cache(maxsize=4)
def _file_system(scheme: str) -> Any:
    if scheme == "gs":
        # Without the storage-control service, which only folders need.
        from gcsfs.core import GCSFileSystem

        return GCSFileSystem(use_listings_cache=False)
    return fsspec.filesystem(scheme, use_listings_cache=False)


def files_of(address: str) -> tuple[Any, str]:
    """Return the file system of fsspec for an address, and the object's path in it.

    Raises:
        RemoteError: if the package for such buckets is not installed.
    """
    scheme, _, path = address.partition("://")
    scheme = scheme.lower()
    check_address(f"{scheme}://{path.rstrip('/')}/x")
    return _file_system(scheme), path


@contextmanager
def bucket_errors(address: str) -> Iterator[None]:
    """Translate the errors of a bucket's library.

    Raises:
        RemoteError: whatever goes wrong.
    """
    scheme, _, path = address.partition("://")
    bucket, _, key = path.partition("/")
    try:
        with in_words(BucketAddress(scheme.lower(), bucket, key)):
            yield
    except UnreachableError as error:
        raise RemoteError(f"{address} cannot be reached: {error}.") from error


def stat_object(address: str) -> ImageItem | None:
    """Look an object up; None if there is none, or a folder."""
    files, path = files_of(address)
    with bucket_errors(address):
        try:
            facts = files.info(path)
        except FileNotFoundError:
            return None
    return _item_of(address.partition("://")[0], facts)


def objects_below(address: str) -> list[ImageItem]:
    """Return the objects below a prefix, as below a folder."""
    files, path = files_of(address)
    with bucket_errors(address):
        found = files.find(path.rstrip("/") + "/", detail=True)
    return _items_of(address, found)


def objects_like(pattern: str) -> list[ImageItem]:
    """Return the objects whose addresses match a pattern."""
    files, path = files_of(pattern)
    with bucket_errors(pattern):
        found = files.glob(path, detail=True)
    return _items_of(pattern, found)


def _items_of(address: str, found: dict[str, Any]) -> list[ImageItem]:
    scheme = address.partition("://")[0]
    items = [_item_of(scheme, facts) for facts in found.values()]
    return [item for item in items if item is not None]


def _item_of(scheme: str, facts: dict[str, Any]) -> ImageItem | None:
    if facts["type"] != "file" or facts["name"].endswith("/"):
        return None
    stamp = facts.get("ETag") or facts.get("generation") or facts.get("md5Hash")
    address = f"{scheme.lower()}://{facts['name']}"
    return ImageItem(
        address,
        address,
        size=int(facts["size"]),
        stamp=None if stamp is None else str(stamp).strip('"'),
    )
