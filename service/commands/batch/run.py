"""One run: list, check, compute what is missing, write the manifest."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from model.remote.addresses import is_address
from service.api.schemas import NOTES
from service.commands.batch.actors import (
    THREADS,
    BatchWork,
    MakeNetwork,
    local_network,
    result_schema,
)
from service.commands.batch.arguments import CPU_BATCH_SIZE, GPU_BATCH_SIZE, PROGRAM
from service.commands.batch.failures import STOPPING, StoppedError, stopped_by
from service.commands.batch.folder import OutputFolder, check_foreign, output_folder
from service.commands.batch.identity import (
    Identity,
    check_same,
    identity_of,
    recorded_dtype,
    with_model,
    write_manifest,
)
from service.commands.batch.items import digest_of
from service.commands.batch.listing import keep_listing, list_images
from service.commands.batch.machines import (
    cluster_pools,
    gpus_of,
    has_room,
    local_pools,
    memory_bytes,
)
from service.commands.batch.part_file import PartWriter
from service.commands.batch.pipeline import (
    chunk_images,
    described,
    flight_bytes,
    input_bytes,
    run_pipeline,
    store_bytes_of,
)
from service.commands.batch.plan import (
    Part,
    Shard,
    checked_part_size,
    manifest_name,
    parts_of,
    plan_name,
    shard_of,
)
from service.commands.batch.ray_session import cluster_ray, local_ray
from service.commands.batch.summary import summary_line
from service.commands.batch.watch import MachinesLostError, watched
from service.commands.console.exits import DONE, FAILED, REFUSED, RefusedError, print_error
from service.commands.console.progress import ImageProgress
from service.commands.predict.conversion import checked_count, request_of, settings_of
from service.settings import ModelSpec

WORDS = ("demo", "pretrained", "random")
"""Weights that are no path."""

WINDOW_IMAGES = 1_000_000
"""Images whose names are in Ray's object store at a time; then the actors start anew."""


def run(arguments: argparse.Namespace, make_network: MakeNetwork = local_network) -> int:
    """Do what the arguments say and return the exit code.

    Args:
        arguments: parsed.
        make_network: loads the network; a stand-in in tests and measurements.
    """
    shard, part_size = shard_of(arguments.shard), checked_part_size(arguments.part_size)
    work, gpus = _work_of(arguments, make_network)
    folder = output_folder(arguments.output)
    check_foreign(folder, shard)
    with folder.claim(shard):
        folder.clean(shard)
        listing, notes = list_images(folder, shard, arguments.sources)
        for note in notes:
            print_error(note, PROGRAM)
        identity = identity_of(
            work.request,
            work.settings,
            sources=arguments.sources,
            listing_sha256=digest_of(listing),
            part_size=part_size,
            shard=shard,
        )
        check_same(folder, _finished(folder), identity)
        parts = parts_of(listing.num_rows, part_size, shard)
        return _Run(folder, shard, listing, parts, identity, work, arguments, gpus).run()


def _work_of(arguments: argparse.Namespace, make_network: MakeNetwork) -> tuple[BatchWork, int]:
    """Return what is done to the images, and how many GPUs of this machine do it."""
    request = request_of(arguments)
    try:
        settings, spec = settings_of(arguments)
    except RefusedError as error:
        raise RefusedError(re.sub(r"--device\b", "--devices", str(error))) from error
    checked_count(arguments.decoders, 1, "decoders")
    if arguments.ray is not None:
        spec = _found_anywhere(spec)
    gpus = gpus_of(settings.devices) if arguments.ray is None else 0
    default = GPU_BATCH_SIZE if gpus else CPU_BATCH_SIZE
    batch_size = checked_count(arguments.batch_size, default, "batch_size")
    return BatchWork(settings, spec, request, batch_size, make_network=make_network), gpus


def _found_anywhere(spec: ModelSpec) -> ModelSpec:
    """Make a model's paths absolute: a cluster's processes work in other folders."""
    weights, labels = spec.weights, spec.labels
    if weights not in WORDS and not is_address(weights):
        weights = str(Path(weights).absolute())
    return replace(spec, weights=weights, labels=None if labels is None else labels.absolute())


def _finished(folder: OutputFolder) -> list[str]:
    """Return the names of the parts and manifests that are there, also those of other shards."""
    return [name for name in folder.names() if not name.startswith(".")]


class _Run:
    def __init__(
        self,
        folder: OutputFolder,
        shard: Shard,
        listing: pa.Table,
        parts: list[Part],
        identity: Identity,
        work: BatchWork,
        arguments: argparse.Namespace,
        gpus: int,
    ) -> None:
        self._folder, self._shard, self._listing, self._parts = folder, shard, listing, parts
        self._identity, self._work, self._arguments, self._gpus = identity, work, arguments, gpus
        self._devices = work.settings.devices
        self._done_images = 0
        self._seconds = 0.0
        self._store_bytes: int | None = None
        self._pools = local_pools(gpus, arguments.decoders)

    def run(self) -> int:
        """Compute what is missing."""
        try:
            self._run_all()
        except StoppedError as error:
            print_error(str(error), PROGRAM)
            print_error("What is done stays; the same command goes on from there.", PROGRAM)
            return FAILED if self._done_images else REFUSED
        manifest = write_manifest(self._folder, self._shard, self._identity, self._parts)
        self._folder.remove(plan_name(self._shard))
        print_error(
            summary_line(manifest, self._folder.name, self._done_images, self._seconds), PROGRAM
        )
        return FAILED if manifest["failed"] else DONE

    def _run_all(self) -> None:
        """Compute everything, and begin anew with what is left of a cluster that loses machines."""
        while True:
            try:
                with self._session() as ray:
                    self._prepare(ray)
                    self._compute(ray)
                return
            except MachinesLostError as error:
                print_error(f"{error} It goes on with those that are left.", PROGRAM)
            except RefusedError as error:
                if not self._done_images:
                    raise
                raise StoppedError(str(error)) from error

    def _session(self) -> AbstractContextManager[Any]:
        """Start Ray or connect to one; the working folder is the same on this machine alone."""
        if self._arguments.ray is not None:
            return cluster_ray(self._arguments.ray)
        images = min(self._listing.num_rows, WINDOW_IMAGES)
        listing_bytes = 4 * int(self._listing.nbytes) * images // self._listing.num_rows
        self._store_bytes = listing_bytes + store_bytes_of(self._pools, memory_bytes())
        threads = os.environ.get(THREADS)
        self._work = replace(self._work, folder=str(Path.cwd()), threads=threads)
        return local_ray(cpus=self._pools.cpus, gpus=self._gpus, store_bytes=self._store_bytes)

    def _prepare(self, ray: Any) -> None:
        """Load the model once to know it, and refuse to mix it with another."""
        settings = self._work.settings
        if self._arguments.ray is not None:
            self._pools = cluster_pools(ray, self._devices, self._arguments.decoders)
            if not self._pools.network_gpus:
                self._work = replace(self._work, threads=str(self._pools.network_cpus))
            elif self._arguments.batch_size is None:
                self._work = replace(self._work, batch_size=GPU_BATCH_SIZE)
        device = "cuda:0" if self._pools.network_gpus else "cpu"
        finished = _finished(self._folder)
        dtype: str = settings.dtype
        if dtype == "auto":
            dtype = recorded_dtype(self._folder, finished) or dtype
        self._work = self._with_settings(devices=device, dtype=dtype)
        try:
            self._model = described(ray, self._work, self._pools)
        except ray.exceptions.RayError as error:
            raise stopped_by(error) from error
        self._work = self._with_settings(dtype=self._model.dtype)
        self._identity = with_model(self._identity, self._model)
        check_same(self._folder, finished, self._identity)
        if (note := NOTES.get(self._model.weights)) is not None:
            print_error(note, PROGRAM)

    def _with_settings(self, **values: Any) -> BatchWork:
        return replace(self._work, settings=self._work.settings.model_copy(update=values))

    def _compute(self, ray: Any) -> None:
        names = self._folder.names()
        missing = [part for part in self._parts if part.name not in names]
        if not missing:
            return
        if len(missing) < len(self._parts):
            print_error(f"{len(self._parts) - len(missing)} parts are done already.", PROGRAM)
        keep_listing(self._folder, self._shard, self._listing)
        if manifest_name(self._shard) in names:
            self._folder.remove(manifest_name(self._shard))
        with ImageProgress(sum(part.size for part in missing), PROGRAM) as progress:
            try:
                for window in _windows(missing):
                    tables = self._tables(ray, window)
                    for part in window:
                        self._write(part, tables, progress)
            except (ray.exceptions.RayError, *STOPPING) as error:
                raise stopped_by(error) from error
            finally:
                self._seconds += progress.seconds

    def _tables(self, ray: Any, parts: Sequence[Part]) -> Iterator[pa.Table]:
        images = chunk_images(self._model, self._work.batch_size)
        chunks = [
            self._listing.slice(chunk.start, len(chunk))
            for part in parts
            for chunk in part.chunks(images)
        ]
        limit_bytes = None
        if self._store_bytes is not None:
            chunk_bytes = images * input_bytes(self._model.input)
            limit_bytes = min(self._store_bytes // 2, flight_bytes(self._pools, chunk_bytes))
        tables = run_pipeline(ray, chunks, self._work, self._model, self._pools, limit_bytes)
        if self._arguments.ray is None:
            return tables
        return watched(tables, lambda: has_room(ray, self._pools))

    def _write(self, part: Part, tables: Iterator[pa.Table], progress: ImageProgress) -> None:
        schema = result_schema(self._work.request, self._model)
        with ExitStack() as stack:
            path = stack.enter_context(self._folder.writing(part.name))
            writer = stack.enter_context(PartWriter(path, schema, self._identity))
            while writer.images < part.size:
                table = next(tables)
                writer.write(table)
                progress.advance(table.num_rows)
        self._done_images += part.size


def _windows(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Cut the missing parts into runs of a bounded number of images."""
    window: list[Part] = []
    for part in parts:
        if window and sum(each.size for each in window) + part.size > WINDOW_IMAGES:
            yield window
            window = []
        window.append(part)
    yield window
