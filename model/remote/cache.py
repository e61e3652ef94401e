"""Files of buckets and web servers, each kept under the address that it was pinned to.

``KEY.json`` is the record of an address: what it was pinned to last, and the file's digest. The
file lies in a folder named after the pinned address, so that no version overwrites another.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from model.checkpoints.file_kind import SUFFIXES
from model.pretrained.one_at_a_time import one_at_a_time
from model.pretrained.partial_file import PartialDownload
from model.pretrained.progress import megabytes
from model.pretrained.records import replace_durably, sha256_of
from model.remote.addresses import Address, RemoteError, parse_address

_LONGEST_NAME_BYTES = 200
"""With an ending for unfinished files, a file system's own limit is 255."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteWeights:
    """Fetched weights.

    Attributes:
        path: the file on this machine.
        source: the pinned address, without secrets.
        sha256: that the file must have, hexadecimal; None where nothing states it.
    """

    path: Path
    source: str
    sha256: str | None


def find_kept(address: Address, folder: Path) -> RemoteWeights | None:
    """Return what an address was pinned to last, if that is kept; it is not verified.

    Raises:
        RemoteError: if the record cannot be read or is damaged.
    """
    record = _record_path(address, folder)
    try:
        facts = json.loads(record.read_text(encoding="utf-8"))
        source, sha256 = str(facts["source"]), str(facts["sha256"])
        path = _path(parse_address(source), folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RemoteError(f"The record of {address} cannot be read: {error}") from error
    except (LookupError, TypeError, ValueError) as error:
        raise RemoteError(f"The record {record} is damaged ({error}): delete it.") from error
    return RemoteWeights(path, source, sha256) if path.is_file() else None


def keep(
    address: Address,
    pinned: Address,
    folder: Path,
    download: Callable[[Path], None],
    *,
    sha256: str | None = None,
) -> RemoteWeights:
    """Download a file unless it is kept, and note what its address was pinned to.

    Of several processes that want the same file one downloads, the others wait for it.

    Args:
        address: as it was given.
        pinned: the version that is wanted.
        folder: of all such files; need not exist.
        download: writes the whole file to a path.
        sha256: that the file must have.

    Raises:
        RemoteError: if the file cannot be kept, or has another SHA-256.
    """
    kept = find_kept(pinned, folder)
    if kept is None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with one_at_a_time(folder / f"{_key(pinned)}.lock", str(pinned)):
                kept = find_kept(pinned, folder) or _fetch(pinned, folder, download, sha256)
        except OSError as error:
            raise RemoteError(
                f"{pinned} cannot be kept in {folder}: {error}. Make room there, or name another "
                "cache folder."
            ) from error
    if find_kept(address, folder) != kept:
        try:
            _write_record(address, kept.source, str(kept.sha256), folder)
        except OSError as error:
            logger.warning(
                "That %s is %s cannot be noted in %s (%s): a start without the network will not "
                "find it.",
                *(address, pinned, folder, error.strerror),
            )
    return kept


def _fetch(
    pinned: Address, folder: Path, download: Callable[[Path], None], sha256: str | None
) -> RemoteWeights:
    path = _path(pinned, folder)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    part = path.with_name(path.name + ".part")
    logger.info("Downloading %s to %s.", pinned, path.parent)
    download(part)
    digest = sha256_of(part)
    if sha256 not in {None, digest}:
        PartialDownload(part).discard()
        raise RemoteError(f"The file from {pinned} has another SHA-256, {digest}. It was deleted.")
    # The record first: without its file, it only states which one to expect.
    _write_record(pinned, str(pinned), digest, folder)
    size = part.stat().st_size
    replace_durably(part, path)
    PartialDownload(part).discard()  # what it would have been resumed by
    logger.info("It is kept as %s (%s, SHA-256 %s).", path, megabytes(size), digest)
    return RemoteWeights(path, str(pinned), digest)


def _write_record(address: Address, source: str, sha256: str, folder: Path) -> None:
    path = _record_path(address, folder)
    facts = {"address": str(address), "source": source, "sha256": sha256}
    unfinished = path.with_suffix(".json.new")
    unfinished.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    replace_durably(unfinished, path)


def _record_path(address: Address, folder: Path) -> Path:
    return folder / f"{_key(address)}.json"


def _path(pinned: Address, folder: Path) -> Path:
    name = pinned.file_name
    if (
        name.startswith(".")
        or "/" in name
        or not name.isprintable()
        or len(os.fsencode(name)) > _LONGEST_NAME_BYTES
    ):
        suffix = Path(name).suffix
        name = f"weights{suffix if suffix in SUFFIXES else ''}"
    return folder / _key(pinned) / name


def _key(address: Address) -> str:
    return hashlib.sha256(str(address).encode()).hexdigest()[:32]
