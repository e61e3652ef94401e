"""Fetch weights from an address, whatever its kind."""

from __future__ import annotations

import json
from pathlib import Path

from model.pretrained import progress
from model.pretrained.one_at_a_time import one_at_a_time
from model.remote.addresses import (
    Address,
    BucketAddress,
    HubAddress,
    WebAddress,
    check_address,
    parse_address,
)
from model.remote.buckets import fetch_from_bucket
from model.remote.cache import RemoteWeights
from model.remote.hub import fetch_from_hub
from model.remote.web import fetch_from_web


def remote_folder(weights_folder: Path) -> Path:
    """Return where files of buckets and web servers are kept below the folder of weights."""
    return weights_folder / "remote"


def fetch(
    weights: str,
    weights_folder: Path,
    *,
    pins: Path | None = None,
    show: progress.Progress = progress.automatic,
) -> RemoteWeights:
    """Return a file of an address, downloaded unless it is cached.

    Args:
        weights: the address.
        weights_folder: where weights are kept; those of a hub are in its own cache.
        pins: a file in which processes of one service agree on a version: the first one looks it
            up, the others take the same one, also later. None for the current version.
        show: shows the progress of a download.

    Raises:
        RemoteError: if the address is wrong, or the file cannot be fetched or kept.
    """
    address = check_address(weights)
    folder = remote_folder(weights_folder)
    if pins is None or address.is_pinned:
        return _fetch(address, folder, show)
    with one_at_a_time(pins.with_suffix(".lock"), str(address)):
        known = json.loads(pins.read_text(encoding="utf-8")) if pins.exists() else {}
        source = known.get(str(address))
        fetched = _fetch(address if source is None else parse_address(source), folder, show)
        unfinished = pins.with_suffix(".new")
        unfinished.write_text(json.dumps({**known, str(address): fetched.source}), encoding="utf-8")
        unfinished.replace(pins)
    return fetched


def _fetch(address: Address, folder: Path, show: progress.Progress) -> RemoteWeights:
    match address:
        case HubAddress():
            return fetch_from_hub(address, show)
        case BucketAddress():
            return fetch_from_bucket(address, folder, show)
        case WebAddress():
            return fetch_from_web(address, folder, show)
