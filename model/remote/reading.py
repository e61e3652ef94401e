"""Read the checkpoint that lies at an address, or on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from model.checkpoints.checkpoint import Checkpoint, read_checkpoint
from model.pretrained.records import default_folder
from model.remote.addresses import RemoteError, is_address
from model.remote.fetch import fetch


def read_weights(
    weights: str | Path, weights_folder: Path | None = None, *, ema: bool = True
) -> Checkpoint:
    """Read a checkpoint; one of an address is fetched first, unless it is cached.

    Args:
        weights: a path or an address.
        weights_folder: where fetched weights are kept; by default in the user's cache folder.
        ema: whether to prefer averaged weights.

    Raises:
        RemoteError: if it cannot be fetched, or the cached file has changed.
        CheckpointError: as ``read_checkpoint``.
    """
    if not (isinstance(weights, str) and is_address(weights)):
        return read_checkpoint(Path(weights), ema=ema)
    fetched = fetch(weights, weights_folder or default_folder())
    checkpoint = read_checkpoint(fetched.path, ema=ema)
    if fetched.sha256 not in {None, checkpoint.digest}:
        raise RemoteError(
            f"{fetched.path.resolve()} has changed since it was fetched from {fetched.source}: its "
            f"SHA-256 was {fetched.sha256} and is {checkpoint.digest}. It is not used. Delete it, "
            "and it is fetched again."
        )
    return replace(checkpoint, source=fetched.source)
