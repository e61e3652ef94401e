"""Notice that files of a complete run are no longer what its manifest says of them.

A file is told by its size and its last bytes, so that a restart reads little of it. The end of a
part is its footer: where each column lies, its extremes, what the part was made of.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

from service.commands.batch.file_names import DATASET_FILES, files_of_dataset
from service.commands.batch.folder import OutputFolder
from service.commands.batch.plan import Shard
from service.commands.console.exits import RefusedError

END_BYTES = 64 * 2**10
"""Of a file, from its end; more than the footer of a part of the usual size."""

FileFacts = dict[str, Any]


def facts_of_file(folder: OutputFolder, name: str) -> FileFacts:
    """Return a file's size and the digest of its end, as a manifest has them."""
    with folder.opened(name) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - END_BYTES))
        end = file.read()
    return {"bytes": size, "end_sha256": hashlib.sha256(end).hexdigest()}


def facts_of_datasets(folder: OutputFolder, shard: Shard) -> dict[str, FileFacts]:
    """Return those of the files of a shard's data sets, by their names."""
    names = [name for each in DATASET_FILES for name in files_of_dataset(each, shard)]
    return {name: facts_of_file(folder, name) for name in names if folder.has(name)}


def check_unchanged(folder: OutputFolder, manifest: dict[str, Any] | None) -> None:
    """Refuse files of a complete run that have changed since they were written.

    Args:
        folder: that has them.
        manifest: of the run; None if it is not complete. One of an older release lacks some facts.

    Raises:
        RefusedError: if one has changed; one that is missing is made again.
    """
    if manifest is None:
        return
    there = folder.names()
    recorded = {part["name"]: part for part in manifest.get("parts", [])}
    for name, then in (recorded | manifest.get("datasets", {})).items():
        if name not in there and not folder.has(name):
            continue
        now = facts_of_file(folder, name)
        if now["bytes"] != then.get("bytes", now["bytes"]):
            what = f"has {now['bytes']} bytes, and had {then['bytes']} when it was written"
        elif now["end_sha256"] != then.get("end_sha256", now["end_sha256"]):
            what = "has changed since it was written"
        else:
            continue
        raise RefusedError(
            f"{folder.name} has {name}, which {what}; remove it, and the same command makes it "
            "again."
        )
