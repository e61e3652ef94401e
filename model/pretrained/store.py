"""Download pretrained weights once, verify them, and cache them as safetensors.

The authors publish no digests, so the first file that fits the network is trusted, and its digest
is recorded; from then on no other file is accepted. See ``docs/adr/0015-pretrained-weights.md``.
"""

from __future__ import annotations

import logging
import time
import zipfile
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from model.architectures import Network, architecture_of, network_for
from model.checkpoints.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from model.checkpoints.class_table import ClassTable, as_metadata
from model.config import DEFAULT_NUM_CLASSES
from model.pretrained import progress
from model.pretrained.assets import Asset, PretrainedError, asset_of
from model.pretrained.one_at_a_time import one_at_a_time
from model.pretrained.partial_file import PartialDownload
from model.pretrained.records import (
    Record,
    find_cached,
    find_record,
    record_path,
    refuse_changed,
    replace_durably,
    sha256_of,
    weights_path,
    write_record,
)

logger = logging.getLogger(__name__)


def ensure_cached(
    name: str,
    folder: Path,
    *,
    source: Path | None = None,
    show: progress.Progress = progress.automatic,
) -> Record:
    """Download a model's published weights unless they are cached.

    Several processes may do so at once: one downloads, the others wait for it. Weights that are
    cached already are not verified; ``load_cached`` does that.

    Args:
        name: the model's.
        folder: where pretrained weights are kept; need not exist.
        source: the published file, copied here by hand; by default it is downloaded.
        show: shows the progress of a download.

    Returns:
        The record of the cached file.

    Raises:
        PretrainedError: if there are none, or they cannot be downloaded or stored, or they are
            not the ones that were recorded.
    """
    asset = asset_of(name)
    kept = find_cached(name, folder)
    if kept is None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with one_at_a_time(folder / f"{name}.lock", f"{name}'s weights"):
                kept = find_cached(name, folder)
                if kept is None:
                    return _fetch(asset, folder, source, show)
        except (OSError, SafetensorError) as error:
            raise PretrainedError(
                f"{name}'s weights cannot be kept in {folder}: {error}. Make room there, or name "
                "another cache folder."
            ) from error
    if source is not None:
        _refuse_another_source(kept, source, folder)
    return kept


def load_cached(name: str, folder: Path) -> Checkpoint:
    """Read cached weights and compare them with their record.

    Returns:
        The checkpoint, with the name and the digest of the published file.

    Raises:
        PretrainedError: if they are not cached, or have changed.
        CheckpointError: if they are damaged beyond reading.
    """
    record = find_cached(name, folder)
    if record is None:
        raise PretrainedError(f"{name}'s weights are not in {folder}.")
    checkpoint = read_checkpoint(weights_path(name, folder))
    refuse_changed(record, folder, checkpoint.digest)
    return replace(checkpoint, path=Path(record.source_file), digest=record.source_sha256)


def verify_cached(record: Record, folder: Path) -> None:
    """Compare cached weights with their record, without loading them.

    Raises:
        PretrainedError: if they have changed.
    """
    refuse_changed(record, folder, sha256_of(weights_path(record.model, folder)))


def _fetch(asset: Asset, folder: Path, source: Path | None, show: progress.Progress) -> Record:
    if source is not None:
        try:
            return _keep(asset, folder, source, origin=str(source), file=source.name)
        except CheckpointError as error:
            raise PretrainedError(
                f"{source} does not hold the published weights of {asset.model}, {asset.file}: "
                f"{error}"
            ) from error
    part = folder / f"{asset.file}.part"
    _download(asset, part, show)
    try:
        record = _keep(asset, folder, part, origin=asset.url, file=asset.file)
    except CheckpointError as error:
        PartialDownload(part).discard()
        raise PretrainedError(
            f"The file from {asset.url} does not hold {asset.model}'s weights, and was deleted: "
            f"{error}"
        ) from error
    PartialDownload(part).discard()
    return record


def _download(asset: Asset, part: Path, show: progress.Progress) -> None:
    # Imported here: cached weights need no HTTP client.
    from model.pretrained.transfer import TransferError, download

    logger.info("Downloading %s to %s.", asset.url, part.parent)
    try:
        with show(asset.file) as report:
            download(asset.url, part, report)
    except TransferError as error:
        raise PretrainedError(
            f"{asset.model}'s weights could not be downloaded from {asset.url}: {error}. The next "
            "attempt resumes this one. By hand: copy that file here, and run: "
            f"overlock download {asset.model} --from {asset.file}"
        ) from error


def _keep(asset: Asset, folder: Path, path: Path, *, origin: str, file: str) -> Record:
    """Verify every entry of a published file and cache it as safetensors."""
    _refuse_damaged(path)
    checkpoint = read_checkpoint(path)
    architecture = architecture_of(asset.model)
    network = network_for(architecture, checkpoint, DEFAULT_NUM_CLASSES[architecture.task])
    _refuse_another_version(asset, folder, checkpoint)
    weights = weights_path(asset.model, folder)
    unfinished = weights.with_name(weights.name + ".new")
    try:
        _save(network, checkpoint.classes, unfinished)
        record = Record(
            model=asset.model,
            source=origin,
            source_file=file,
            source_sha256=checkpoint.digest,
            sha256=sha256_of(unfinished),
            kept_on=time.strftime("%Y-%m-%d", time.gmtime()),
        )
        # The record first: without its weights, it only states which ones to expect.
        write_record(record, folder)
        replace_durably(unfinished, weights)
    finally:
        unfinished.unlink(missing_ok=True)
    logger.info(
        "%s fits %s and is kept as %s (%s, SHA-256 of the original %s).",
        file,
        asset.model,
        weights,
        progress.megabytes(weights.stat().st_size),
        record.source_sha256,
    )
    return record


def _refuse_damaged(path: Path) -> None:
    """Verify the checksum of every part of a PyTorch file, which torch.load does not."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise CheckpointError(f"{path} is a damaged archive: {error}.") from error
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged: the checksum of {damaged} does not match.")


def _refuse_another_version(asset: Asset, folder: Path, checkpoint: Checkpoint) -> None:
    previous = find_record(asset.model, folder)
    if previous is not None and previous.source_sha256 != checkpoint.digest:
        raise PretrainedError(
            f"{checkpoint.path} is not the file that was trusted on {previous.kept_on}, "
            f"{previous.source}: its SHA-256 is {checkpoint.digest}, and was "
            f"{previous.source_sha256}. To trust this one, delete "
            f"{record_path(asset.model, folder)}."
        )


def _refuse_another_source(kept: Record, source: Path, folder: Path) -> None:
    try:
        digest = sha256_of(source)
    except OSError as error:
        raise PretrainedError(f"{source} cannot be read: {error}") from error
    if digest != kept.source_sha256:
        raise PretrainedError(
            f"{kept.model}'s weights are kept already, made from {kept.source} with another "
            f"SHA-256, {kept.source_sha256}; that of {source} is {digest}. To take it instead, "
            f"delete {weights_path(kept.model, folder)} and {record_path(kept.model, folder)}."
        )


def _save(network: Network, classes: ClassTable, path: Path) -> None:
    entries = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(entries, path, metadata=as_metadata(classes))
