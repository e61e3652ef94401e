"""One run: list, check, compute what is missing, write the manifest."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from service.api.schemas import NOTES
from service.commands.batch.actors import (
    THREADS,
    BatchWork,
    MakeNetwork,
    local_network,
    result_schema,
)
from service.commands.batch.arguments import GPU_BATCH_SIZE, PROGRAM
from service.commands.batch.datasets.dataset import (
    Dataset,
    check_format,
    dataset_of,
    remove_datasets,
)
from service.commands.batch.failure_limit import FailureLimit, failure_limit_of
from service.commands.batch.failures import STOPPING, StoppedError, stopped_by
from service.commands.batch.file_names import check_foreign, is_result
from service.commands.batch.folder import OutputFolder, output_folder
from service.commands.batch.identity import (
    Identity,
    check_same,
    facts_of,
    identity_of,
    recorded_dtype,
    with_model,
    write_manifest,
)
from service.commands.batch.items import digest_of
from service.commands.batch.known_model import known_model, stated_digest
from service.commands.batch.listing import keep_listing, list_images
from service.commands.batch.machines import (
    cluster_pools,
    has_room,
    local_pools,
    memory_bytes,
)
from service.commands.batch.part_file import PartWriter
from service.commands.batch.pipeline import (
    chunk_bytes,
    chunk_images,
    described,
    flight_bytes,
    names_bytes,
    run_pipeline,
    store_bytes_of,
    window_images,
)
from service.commands.batch.plan import (
    Part,
    Shard,
    checked_part_size,
    manifest_name,
    parts_of,
    plan_name,
    shard_of,
    windows_of,
)
from service.commands.batch.ray_session import cluster_ray, local_ray
from service.commands.batch.summary import stopped_line, summary_line
from service.commands.batch.unchanged import check_unchanged
from service.commands.batch.watch import MachinesLostError, watched
from service.commands.batch.work import work_of
from service.commands.console.exits import DONE, FAILED, REFUSED, RefusedError, print_error
from service.commands.console.progress import ImageProgress


def run(arguments: argparse.Namespace, make_network: MakeNetwork = local_network) -> int:
    """Do what the arguments say and return the exit code.

    Args:
        arguments: parsed.
        make_network: loads the network; a stand-in in tests and measurements.
    """
    shard, part_size = shard_of(arguments.shard), checked_part_size(arguments.part_size)
    failure_limit = failure_limit_of(arguments.max_failed)
    work, gpus = work_of(arguments, make_network)
    check_format(arguments.format, work.request.task)
    folder = output_folder(arguments.output)
    check_foreign(folder.name, folder.names(), shard)
    with folder.claim(shard):
        folder.clean(shard)
        listing, notes = list_images(folder, shard, arguments.sources)
        for note in notes:
            print_error(note, PROGRAM)
        dataset = dataset_of(arguments.format, shard, listing.column("path").to_pylist)
        identity = identity_of(
            work.request,
            work.settings,
            sources=arguments.sources,
            listing_sha256=digest_of(listing),
            stated_sha256=stated_digest(work.spec),
            part_size=part_size,
            shard=shard,
        )
        check_same(folder, _finished(folder), identity)
        check_unchanged(folder, facts_of(folder, manifest_name(shard)))
        parts = parts_of(listing.num_rows, part_size, shard)
        run = _Run(folder, shard, listing, parts, identity, work, arguments, gpus, dataset)
        return run.run(failure_limit)


def _finished(folder: OutputFolder) -> list[str]:
    """Return the names of the parts and manifests that are there, also those of other shards."""
    return [name for name in folder.names() if is_result(name)]


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
        dataset: Dataset | None,
    ) -> None:
        self._folder, self._shard, self._listing, self._parts = folder, shard, listing, parts
        self._identity, self._work, self._arguments, self._gpus = identity, work, arguments, gpus
        self._dataset = dataset
        self._images = sum(part.size for part in parts)
        self._devices = work.settings.devices
        self._found_images = self._done_images = 0  # by earlier runs, and by this one
        self._seconds = 0.0
        self._store_bytes: int | None = None
        self._in_tiles = work.request.tiled is not None
        self._pools = local_pools(gpus, arguments.decoders)

    def run(self, failure_limit: FailureLimit) -> int:
        """Compute what is missing, and write the data set if one is asked for."""
        try:
            self._found_images = self._images_there()
            if not self._is_computed():
                self._run_all()
            self._write_dataset()
        except KeyboardInterrupt:
            with suppress(RefusedError, OSError):  # it was asked to stop, whatever the folder says
                print_error(stopped_line(self._images_there(), self._images), PROGRAM)
            raise
        except StoppedError as error:
            print_error(str(error), PROGRAM)
            print_error("What is done stays; the same command goes on from there.", PROGRAM)
            return FAILED if self._done_images or (self._found_images and error.passes) else REFUSED
        manifest = write_manifest(self._folder, self._shard, self._identity, self._parts)
        self._folder.remove(plan_name(self._shard))
        print_error(
            summary_line(
                manifest,
                self._folder.name,
                self._done_images,
                self._seconds,
                None if self._dataset is None else self._dataset.name,
                failure_limit,
            ),
            PROGRAM,
        )
        failed = sum(manifest["failed"].values())
        return DONE if failure_limit.allows(failed, manifest["images"]) else FAILED

    def _images_there(self) -> int:
        """Count the images in the parts that are there."""
        names = set(self._folder.names())
        return sum(part.size for part in self._parts if part.name in names)

    def _is_computed(self) -> bool:
        """Tell whether all parts are there, made by the model that is stated: Ray is not needed."""
        if self._found_images < self._images:
            return False
        finished = _finished(self._folder)
        model = known_model(self._folder, finished, self._work.spec, self._work.settings)
        if model is None:
            return False
        self._identity |= {"model": model}
        check_same(self._folder, finished, self._identity)
        self._note(model["weights"])
        return True

    def _note(self, weights: str) -> None:
        if (note := NOTES.get(weights)) is not None:
            print_error(note, PROGRAM)

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
        self._store_bytes = names_bytes(self._listing, in_tiles=self._in_tiles) + store_bytes_of(
            self._pools, memory_bytes(), in_tiles=self._in_tiles
        )
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
        self._note(self._model.weights)

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
        remove_datasets(self._folder, names, self._shard)
        if manifest_name(self._shard) in names:
            self._folder.remove(manifest_name(self._shard))
        images = window_images(
            self._model,
            self._work.batch_size,
            in_tiles=self._in_tiles,
            part_images=self._parts[0].size,
        )
        with ImageProgress(sum(part.size for part in missing), PROGRAM) as progress:
            try:
                for window in windows_of(missing, images):
                    with self._tables(ray, window) as tables:
                        for part in window:
                            self._write(part, tables, progress)
            except (ray.exceptions.RayError, *STOPPING) as error:
                raise stopped_by(error) from error
            finally:
                self._seconds += progress.seconds

    def _write_dataset(self) -> None:
        if self._dataset is None or self._dataset.is_in(self._folder):
            return
        print_error(f"Writing {self._dataset.name}.", PROGRAM)
        with ImageProgress(self._images, PROGRAM) as progress:
            try:
                self._dataset.write(self._folder, self._parts, self._identity, progress.advance)
            except STOPPING as error:
                raise stopped_by(error) from error

    @contextmanager
    def _tables(self, ray: Any, parts: Sequence[Part]) -> Iterator[Iterator[pa.Table]]:
        """Yield the results; Ray Data ends with the ``with`` statement, while Ray is there."""
        batch_size, in_tiles = self._work.batch_size, self._in_tiles
        chunks = [
            self._listing.slice(chunk.start, len(chunk))
            for part in parts
            for chunk in part.chunks(
                chunk_images(self._model, batch_size, in_tiles=in_tiles, part_images=part.size)
            )
        ]
        limit_bytes = None
        if self._store_bytes is not None:
            most_bytes = chunk_bytes(self._model, batch_size, in_tiles=in_tiles)
            limit_bytes = min(self._store_bytes // 2, flight_bytes(self._pools, most_bytes))
        with closing(
            run_pipeline(ray, chunks, self._work, self._model, self._pools, limit_bytes)
        ) as tables:
            alone = self._arguments.ray is None
            yield tables if alone else watched(tables, lambda: has_room(ray, self._pools))

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
