"""The cache of pretrained weights: weights files, and records of what they were made from.

Torch-free, so that a command can list the cache without loading torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from model.pretrained.assets import PretrainedError

SUFFIX = ".safetensors"


def weights_folder(cache_folder: Path) -> Path:
    """Return where pretrained weights are kept below the service's cache folder."""
    return cache_folder / "weights"


def default_folder() -> Path:
    """Return where pretrained weights are kept by default."""
    return weights_folder(Path.home() / ".cache" / "overlock-service")


@dataclass(frozen=True)
class Record:
    """Origin and digests of a cached file.

    Attributes:
        model: the model's name.
        source: the URL that it came from, or the path given by hand.
        source_file: the name of the file that it was made from.
        source_sha256: SHA-256 of that file, hexadecimal.
        sha256: SHA-256 of the cached file, hexadecimal.
        kept_on: the day on which it was cached, such as 2025-01-31 (UTC).
    """

    model: str
    source: str
    source_file: str
    source_sha256: str
    sha256: str
    kept_on: str


def weights_path(model: str, folder: Path) -> Path:
    """Return where a model's weights are kept."""
    return folder / f"{model}{SUFFIX}"


def record_path(model: str, folder: Path) -> Path:
    """Return where the record of a model's weights is kept."""
    return folder / f"{model}.json"


def find_record(model: str, folder: Path) -> Record | None:
    """Return the record of a model's weights, even if the weights are gone.

    Raises:
        PretrainedError: if the record cannot be read or is damaged.
    """
    path = record_path(model, folder)
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(value, str) for value in facts.values()):
            raise TypeError("a value is no text")
        return Record(**facts)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise PretrainedError(f"The record of {model}'s weights cannot be read: {error}") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise PretrainedError(
            f"The record {path} is damaged ({error}). Delete it, and {model}{SUFFIX} beside it, "
            f"and fetch them again: overlock download {model}"
        ) from error


def find_cached(model: str, folder: Path) -> Record | None:
    """Return the record of a model's weights if they are cached; they are not verified.

    Raises:
        PretrainedError: if the record cannot be read or is damaged.
    """
    record = find_record(model, folder)
    return record if record is not None and weights_path(model, folder).is_file() else None


def refuse_changed(record: Record, folder: Path, digest: str) -> None:
    """Compare a cached file with its record.

    Args:
        record: of the file.
        folder: where it is.
        digest: SHA-256 of the file as it is now, hexadecimal.

    Raises:
        PretrainedError: if it is not the file that was recorded.
    """
    if digest != record.sha256:
        path = weights_path(record.model, folder)
        raise PretrainedError(
            f"{path} has changed since it was checked on {record.kept_on}: its SHA-256 was "
            f"{record.sha256} and is {digest}. It is not used. Delete it and fetch it again: "
            f"overlock download {record.model}"
        )


def write_record(record: Record, folder: Path) -> None:
    """Write a record atomically: a crash leaves the old one or the new one."""
    path = record_path(record.model, folder)
    text = json.dumps(asdict(record), indent=2) + "\n"
    unfinished = path.with_suffix(".json.new")
    unfinished.write_text(text, encoding="utf-8")
    replace_durably(unfinished, path)


def replace_durably(unfinished: Path, path: Path) -> None:
    """Rename a file over another one after all of it is on the disk."""
    for changed, rename in ((unfinished, True), (path.parent, False)):
        descriptor = os.open(changed, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if rename:
            unfinished.replace(path)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
