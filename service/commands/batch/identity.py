"""What results were made of: sources, model and options, in each part and in the manifest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from service.api.queries import SegmentQuery, TiledQuery
from service.commands.batch.differences import differences
from service.commands.batch.folder import OutputFolder
from service.commands.batch.part_file import damaged, read_metadata
from service.commands.batch.plan import Part, Shard, manifest_name
from service.commands.batch.unchanged import facts_of_datasets, facts_of_file
from service.commands.console.exits import RefusedError
from service.commands.predict.outcome import PredictRequest
from service.link.messages import ModelInfo
from service.settings import Settings

FORMAT = 1
"""Version of the files."""

MAX_DIFFERENCES = 4
"""Differences that a message names; the others are counted."""

STATED = "stated_sha256"
"""The digest of the words that state the model; see ``known_model``."""

TOLD_ALONE = ("sources", "images", "failed", "parts", "datasets", STATED)
"""Facts that may differ: the same images, and the same model, can be named in other ways."""

Identity = dict[str, Any]


def identity_of(
    request: PredictRequest,
    settings: Settings,
    *,
    sources: Sequence[str],
    listing_sha256: str,
    stated_sha256: str,
    part_size: int,
    shard: Shard,
) -> Identity:
    """Return what is known of a run before its model is loaded."""
    query = request.query
    options = query.model_dump(exclude={"timeout", "model", "logits"})
    if isinstance(query, SegmentQuery):
        options = {"geometry": settings.segment_geometry, "tile": query.tile}
    if isinstance(query, TiledQuery):
        options["overlap"] = None if query.tile is None else query.tile_overlap
    return {
        "format": FORMAT,
        "task": str(request.task),
        "sources": list(sources),
        "listing_sha256": listing_sha256,
        STATED: stated_sha256,
        "options": options
        | {
            "part_size": part_size,
            "shards": shard.count,
            "max_image_pixels": settings.max_image_pixels,
        },
    }


def with_model(identity: Identity, model: ModelInfo) -> Identity:
    """Return a run's identity with its model."""
    facts = model.input
    return identity | {
        "model": {
            "name": model.name,
            "architecture": model.architecture,
            "weights": model.weights,
            "weights_source": model.weights_source,
            "weights_sha256": model.weights_sha256,
            "weights_kind": model.weights_kind,
            "dtype": model.dtype,
            "activation": model.activation,
            "labels": list(model.labels),
            "input": {
                name: getattr(facts, name)
                for name in facts.__struct_fields__
                if name != "sources" and getattr(facts, name) is not None
            },
        }
    }


def check_same(folder: OutputFolder, names: Sequence[str], identity: Identity) -> None:
    """Refuse to add to results of other images, another model or other options.

    Args:
        folder: the output folder.
        names: of finished files in it.
        identity: of this run; facts that it lacks are not compared.

    Raises:
        RefusedError: if something differs.
    """
    compared = {key: value for key, value in identity.items() if key not in TOLD_ALONE}
    ours = json.loads(json.dumps(compared))
    for name in names:
        theirs = facts_of(folder, name)
        if theirs is None:
            raise damaged(folder, name)
        found = list(differences(ours, theirs))
        if found:
            others = len(found) - MAX_DIFFERENCES
            more = f", and {others} more" if others > 0 else ""
            raise RefusedError(
                f"{folder.name} has {name}, of a run that differs from this one: "
                f"{'; '.join(found[:MAX_DIFFERENCES])}{more}. Give another folder."
            )


def facts_of(folder: OutputFolder, name: str) -> Identity | None:
    """Return what a part or a manifest says of itself; None if it is damaged."""
    if name.endswith(".parquet"):
        return read_metadata(folder, name)
    try:
        document = json.loads(folder.read(name) or b"null")
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def recorded_dtype(folder: OutputFolder, names: Sequence[str]) -> str | None:
    """Return the precision of results that are there: ``auto`` could choose another one now."""
    for name in names:
        facts = facts_of(folder, name)
        if facts is not None:
            return str(facts["model"]["dtype"])
    return None


def write_manifest(
    folder: OutputFolder, shard: Shard, identity: Identity, parts: Sequence[Part]
) -> Identity:
    """Write the file that says that a run is complete, and return what it says."""
    counts = []
    failed: dict[str, int] = {}
    for part in parts:
        facts = facts_of(folder, part.name)
        if facts is None:
            raise damaged(folder, part.name)
        counts.append(
            {
                "name": part.name,
                "images": facts["images"],
                "failed": facts["failed"],
                **(facts_of_file(folder, part.name) or {}),
            }
        )
        for slug, count in facts["failed"].items():
            failed[slug] = failed.get(slug, 0) + count
    document = identity | {
        "shard": None if shard.count is None else shard.index,
        "images": sum(each["images"] for each in counts),
        "failed": dict(sorted(failed.items())),
        "parts": counts,
        "datasets": facts_of_datasets(folder, shard),
    }
    folder.write(
        manifest_name(shard), json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"
    )
    return document
