"""One result of those of the passes over a large image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from model.config import Task
from model.images.instances import FoundInstances, merged_instances
from model.images.stitching import PassLogits, stitched_label_map
from model.images.tiles import TileGrid
from service.answers.inference import EngineResult
from service.api.queries import DetectQuery, SegmentQuery
from service.link.messages import InferenceResult, ModelInfo, Question

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = tuple["NDArray[Any]", ...]


def question_of_passes(model: ModelInfo, passes: int) -> Question:
    """Return what each pass asks of a model: of several, a segmenter's logits are blended."""
    return Question(model.task, logits=model.task is Task.SEGMENT and passes > 1)


def merged(
    results: Sequence[EngineResult], grid: TileGrid, query: SegmentQuery | DetectQuery
) -> EngineResult:
    """Merge the passes' results: stitch logits to a label map, or parts of objects to objects.

    Args:
        results: of the grid's passes, in order; a segmenter's have logits if there are several.
        grid: of the image.
        query: detections below its threshold are left out before they are merged.

    Returns:
        A result of the whole image, whose times are those of the slowest pass.
    """
    whole = results[0]
    if len(results) == 1:
        return whole
    if whole.model.task is Task.SEGMENT:
        arrays = _stitched(results, grid)
    else:
        assert isinstance(query, DetectQuery)
        arrays = _objects(results, grid, query)
    slowest = {
        "decode_seconds": results[-1].timing.decode_seconds,
        "queue_seconds": max(each.timing.queue_seconds for each in results),
        "inference_seconds": max(each.timing.inference_seconds for each in results),
        "batch_size": max(each.timing.batch_size for each in results),
    }
    result = InferenceResult(
        arrays,
        slowest["queue_seconds"],
        slowest["inference_seconds"],
        max(each.timing.batch_size for each in results),
    )
    return replace(whole, result=result, timing=whole.timing.model_copy(update=slowest))


def _stitched(results: Sequence[EngineResult], grid: TileGrid) -> Arrays:
    passes = [
        PassLogits(each.result.arrays[0], each.prepared.network_input.size) for each in results
    ]
    return (stitched_label_map(grid, passes, raise_if_cancelled=results[0].raise_if_cancelled),)


def _objects(results: Sequence[EngineResult], grid: TileGrid, query: DetectQuery) -> Arrays:
    """Return boxes, scores and labels of the objects; masks of their parts, boxes and object."""
    found = _found(results, grid, query)
    objects = merged_instances(found, grid.regions, results[0].raise_if_cancelled)
    objects = objects[: query.max_detections]
    parts = [part for each in objects for part in each.parts]
    owners = [place for place, each in enumerate(objects) for _ in each.parts]
    return (
        np.array([each.box for each in objects], np.float32).reshape(-1, 4),
        np.array([each.score for each in objects], np.float32),
        np.array([each.label for each in objects], np.int64),
        found.masks[parts],
        found.boxes[parts],
        np.array(owners, np.intp),
    )


def _found(results: Sequence[EngineResult], grid: TileGrid, query: DetectQuery) -> FoundInstances:
    columns: list[list[NDArray[Any]]] = [[], [], [], [], []]
    for number, (each, region) in enumerate(zip(results, grid.regions, strict=True)):
        boxes, scores, labels, masks = each.result.arrays
        kept = scores >= query.score_threshold
        offset = np.array([region.left, region.top, region.left, region.top], np.float32)
        made: list[NDArray[Any]] = [boxes + offset, scores, labels, masks]
        made.append(np.full(len(scores), number, np.intp))
        for column, array in zip(columns, made, strict=True):
            column.append(array[kept])
    return FoundInstances(*(np.concatenate(column) for column in columns))
