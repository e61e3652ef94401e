"""The listing of a run: made anew each time, and kept while the run is unfinished."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from service.commands.batch.folder import OutputFolder
from service.commands.batch.items import LISTING_SCHEMA, items_of
from service.commands.batch.plan import Shard, plan_name
from service.commands.batch.sources import find_items
from service.commands.console.exits import RefusedError
from service.commands.predict.sources import skipped_note


def list_images(
    folder: OutputFolder, shard: Shard, sources: Sequence[str]
) -> tuple[pa.Table, list[str]]:
    """List the images of a run; one that goes on has those that it began with.

    Returns:
        The listing, and sentences for the user.

    Raises:
        RefusedError: if the images of an unfinished run have changed, or others have come.
    """
    listing, skipped = find_items(sources, sys.stdin.buffer, folder.holds)
    note = skipped_note(skipped)
    notes = [] if note is None else [note]
    kept = _kept(folder, shard)
    if kept is None:
        return listing, notes
    gone = _compared(kept, listing, folder.name)
    if gone:
        notes.append(
            f"{_counted(gone)} gone since this run began; those not done yet are unreadable."
        )
    return kept, notes


def keep_listing(folder: OutputFolder, shard: Shard, listing: pa.Table) -> None:
    """Keep a listing until the run is complete."""
    name = plan_name(shard)
    if name not in folder.names():
        with folder.writing(name) as path:
            pq.write_table(listing, path, compression="zstd")


def _kept(folder: OutputFolder, shard: Shard) -> pa.Table | None:
    content = folder.read(plan_name(shard))
    if content is None:
        return None
    try:
        return pq.read_table(pa.BufferReader(content)).cast(LISTING_SCHEMA)
    except (pa.ArrowException, ValueError) as error:
        raise RefusedError(
            f"{folder.name} has {plan_name(shard)}, which is damaged; remove it to list the images "
            "anew."
        ) from error


def _compared(kept: pa.Table, listing: pa.Table, folder: str) -> list[str]:
    """Return the images that are gone.

    Raises:
        RefusedError: if others have come or changed.
    """
    before = {item.path: item for item in items_of(kept)}
    now = {item.path: item for item in items_of(listing)}
    new = [path for path in now if path not in before]
    changed = [
        path
        for path, item in now.items()
        if path in before and item != before[path] and not item.is_missing
    ]
    for paths, what in ((new, "new"), (changed, "changed")):
        if paths:
            raise RefusedError(
                f"{folder} has an unfinished run over other images: {_counted(paths)} {what} since "
                "then; give another folder."
            )
    return [
        path
        for path, item in before.items()
        if not item.is_missing and (path not in now or now[path].is_missing)
    ]


def _counted(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 1} more are" if len(paths) > 1 else " is"
    return f"{paths[0]}{more}"
