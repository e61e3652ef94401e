"""The pipeline on Ray Data: chunks of items in, tables of results out, in order.

Decoders, on CPUs, read and decode; networks, one a device, predict. Memory is bounded: a chunk has
a bounded number of inputs, an input has a bounded size, and so many chunks are on their way as fit
into the share of the object store that the pipeline may fill.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from service.api.queries import MAX_PASSES
from service.commands.batch.actors import BatchWork, Decoder, Predictor, describe
from service.commands.batch.items import packed
from service.commands.batch.plan import MAX_PART_SIZE
from service.commands.console.exits import RefusedError
from service.link.messages import InputInfo, ModelInfo

CHANNELS = 3
"""Of an input, one byte each; a grey network's are three of equal value."""

CHUNK_BYTES = 32 * 2**20
"""Inputs of a chunk, at most, where that is at least one batch."""

LEAST_BATCHES = 4
"""Batches of a chunk where memory allows. More of them fill the batches of the dense tasks better,
whose images differ in shape."""

SMALL_CHUNK_BYTES = 16 * 2**20
"""Small inputs fill this much with more batches: each chunk costs Ray time of its own."""

LEAST_CHUNKS = 32
"""Chunks of a part, unless they would have fewer batches: all networks should have work."""

CHUNKS_OF_A_WORKER = 4
"""Chunks on their way for each decoder and each network: in it, before it, and behind it."""

LEAST_STORE_BYTES = 128 * 2**20

UNKNOWN_CHUNK_BYTES, UNKNOWN_TILES_BYTES = 64 * 2**20, 256 * 2**20
"""Of a chunk of a model that is not known yet, and of an image in tiles: a Ray on this machine
starts before."""

WINDOW_IMAGES, WINDOW_CHUNKS = 1_000_000, 20_000
"""Images, and chunks of them, whose names are in the object store at a time; then the actors start
anew. Nothing is decoded before Ray has all of these chunks, which takes it a millisecond each."""

CHUNK_NAME_BYTES = 2048
"""Of a chunk in the object store, beside the names of its images."""

STORE_SHARE = 0.3
"""Share of the machine's memory that the object store may have at most."""

NICENESS = 5
"""Niceness of a decoder, added to the command's own."""

MAX_RESTARTS = 3
"""Of an actor that dies; with them ends the chunk that it dies with."""

UNBOUNDED = -1
"""Attempts at a chunk: until its machine's death is known they all fail, and none is a restart."""


@dataclass(frozen=True)
class Pools:
    """The actors of a run.

    Attributes:
        decoders: their number; each counts as one CPU.
        networks: their number.
        network_cpus: that each network counts as; 0 where GPUs alone bound their number.
        network_gpus: that each network has.
    """

    decoders: int
    networks: int
    network_cpus: int
    network_gpus: int

    @property
    def cpus(self) -> int:
        """All CPUs that they count as, with one for Ray Data's own tasks."""
        return self.decoders + self.networks * self.network_cpus + 1

    def with_work(self, chunks: int) -> Pools:
        """Return these without the actors that so few chunks would leave idle."""
        return replace(
            self, decoders=min(self.decoders, chunks), networks=min(self.networks, chunks)
        )


def chunk_images(
    model: ModelInfo, batch_size: int, *, in_tiles: bool, part_images: int = MAX_PART_SIZE
) -> int:
    """Return how many images are decoded and batched together.

    The passes over one image in tiles fill batches, and how many there are is not known before.

    Args:
        model: the network's.
        batch_size: most images of one shape in a forward pass.
        in_tiles: whether each image is predicted on in tiles.
        part_images: images of the part that is cut into chunks.
    """
    if in_tiles:
        return 1
    batch_bytes = batch_size * input_bytes(model.input)
    small = min(SMALL_CHUNK_BYTES // batch_bytes, part_images // (LEAST_CHUNKS * batch_size))
    batches = min(max(LEAST_BATCHES, small), CHUNK_BYTES // batch_bytes)
    return max(1, batches) * batch_size


def input_bytes(info: InputInfo) -> int:
    """Return the most bytes of an image's or tile's input, whatever its own size."""
    if info.height is not None and info.width is not None:
        return info.height * info.width * CHANNELS
    multiple = info.multiple or 1
    sides = [-(-(side or 1) // multiple) * multiple for side in (info.short_side, info.long_side)]
    return sides[0] * sides[1] * CHANNELS


def window_images(
    model: ModelInfo, batch_size: int, *, in_tiles: bool, part_images: int = MAX_PART_SIZE
) -> int:
    """Return how many images Ray knows at a time; arguments as of ``chunk_images``."""
    chunk = chunk_images(model, batch_size, in_tiles=in_tiles, part_images=part_images)
    return min(WINDOW_IMAGES, WINDOW_CHUNKS * chunk)


def chunk_bytes(model: ModelInfo, batch_size: int, *, in_tiles: bool) -> int:
    """Return the most bytes of a chunk's inputs."""
    inputs = MAX_PASSES if in_tiles else chunk_images(model, batch_size, in_tiles=False)
    return inputs * input_bytes(model.input)


def flight_bytes(pools: Pools, chunk_bytes: int) -> int:
    """Return the bytes of the chunks that are on their way at a time."""
    return CHUNKS_OF_A_WORKER * (pools.decoders + pools.networks) * chunk_bytes


def store_bytes_of(pools: Pools, memory_bytes: int, *, in_tiles: bool) -> int:
    """Return the size of the object store that a run needs; see ``docs/batch.md``."""
    wanted = 2 * flight_bytes(pools, UNKNOWN_TILES_BYTES if in_tiles else UNKNOWN_CHUNK_BYTES)
    return max(LEAST_STORE_BYTES, min(wanted, int(STORE_SHARE * memory_bytes)))


def names_bytes(listing: pa.Table, *, in_tiles: bool) -> int:
    """Return the most bytes of the object store that the names of images take."""
    images = min(listing.num_rows, WINDOW_CHUNKS if in_tiles else WINDOW_IMAGES)
    packed_bytes: int = 4 * int(listing.nbytes) * images // listing.num_rows
    return packed_bytes + (images * CHUNK_NAME_BYTES if in_tiles else 0)


def described(ray: Any, work: BatchWork, pools: Pools) -> ModelInfo:
    """Load the network in a process of its own that ends then, and return its model.

    Raises:
        RefusedError: if it cannot be loaded, or cannot do what the query asks for.
        RayError: if the process dies.
    """
    remote = ray.remote(
        num_cpus=pools.network_cpus, num_gpus=pools.network_gpus, max_calls=1, max_retries=0
    )(describe)
    found = ray.get(remote.remote(work))
    if isinstance(found, str):
        raise RefusedError(found)
    assert isinstance(found, ModelInfo)
    return found


class _NiceDecoder(Decoder):
    """A decoder in a process of its own, which gives way to a network on the CPU."""

    def __init__(self, work: BatchWork, model: ModelInfo) -> None:
        os.nice(NICENESS)
        super().__init__(work, model)


def run_pipeline(
    ray: Any,
    chunks: Sequence[pa.Table],
    work: BatchWork,
    model: ModelInfo,
    pools: Pools,
    limit_bytes: int | None,
) -> Generator[pa.Table, None, None]:
    """Predict on chunks of a listing.

    Args:
        ray: the module, connected.
        chunks: of the listing.
        work: what is done to the images.
        model: the network's.
        pools: the most actors.
        limit_bytes: of the object store that the chunks on their way may fill; None leaves it to
            Ray Data.

    Yields:
        A table for each chunk, in order.
    """
    _configure(ray, limit_bytes)
    items = [{"items": packed(chunk)} for chunk in chunks]
    with warnings.catch_warnings():
        # Nothing else bounds them, and without a bound an image that kills its decoder does so for
        # ever. A later Ray has other words; see the bound in pyproject.toml.
        warnings.simplefilter("ignore", ray.util.annotations.RayDeprecationWarning)
        results = _results(ray, items, work, model, pools.with_work(len(items)))
    yield from results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def _results(
    ray: Any, items: list[dict[str, Any]], work: BatchWork, model: ModelInfo, pools: Pools
) -> Any:
    """Return the data set of the results, which computes while it is read."""
    strategy = ray.data.ActorPoolStrategy
    retries = {"max_restarts": MAX_RESTARTS, "max_task_retries": UNBOUNDED}
    return (
        ray.data.from_items(items, override_num_blocks=len(items))
        .map_batches(
            _NiceDecoder,
            batch_size=None,
            batch_format="pyarrow",
            compute=strategy(size=pools.decoders, max_tasks_in_flight_per_actor=2),
            fn_constructor_args=[work, model],
            num_cpus=1,
            **retries,
        )
        # What map_batches calls. That itself wants a batch size for a GPU, and would put chunks
        # together by it.
        .map_batches_internal(
            Predictor,
            batch_size=None,
            batch_format="pyarrow",
            compute=strategy(
                size=pools.networks,
                max_tasks_in_flight_per_actor=3,
                max_concurrent_calls_per_actor=2,
                enable_true_multi_threading=True,
            ),
            fn_constructor_args=[work],
            num_cpus=pools.network_cpus,
            num_gpus=pools.network_gpus,
            **retries,
        )
    )


def _configure(ray: Any, limit_bytes: int | None) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    # A chunk stays whole, so that its batches and numbers are the same in every run.
    context.target_max_block_size = None
    context.execution_options.preserve_order = True
    if limit_bytes is not None:
        limits = context.execution_options.resource_limits
        context.execution_options.resource_limits = limits.for_limits(
            object_store_memory=limit_bytes
        )
