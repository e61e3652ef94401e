"""Rendering of a segmentation."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from model.images.masks import rle_of_classes
from service.answers.drawing.label_maps import label_map_png
from service.answers.drawing.segments import overlay_png
from service.answers.inference import EngineResult
from service.api.queries import SegmentQuery
from service.api.schemas import ClassRunLengths, PngMask, RleMask, SegmentedClass, SegmentResponse
from service.link.messages import ModelInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray


def segment_picture(engine_result: EngineResult, query: SegmentQuery) -> bytes:
    """Draw the label map, on its own or over the image."""
    label_map, model = engine_result.result.arrays[0], engine_result.model
    if query.view == "labels":
        return label_map_png(label_map, model.colors)
    engine_result.raise_if_cancelled()
    return overlay_png(
        engine_result.decode(),
        label_map,
        model.colors,
        model.labels,
        raise_if_cancelled=engine_result.raise_if_cancelled,
    )


def segment_document(engine_result: EngineResult, query: SegmentQuery) -> SegmentResponse:
    """List the classes that occur, with the mask in the form that the query asks for."""
    started = time.perf_counter()
    label_map, model = engine_result.result.arrays[0], engine_result.model
    classes = present_classes(label_map, model)
    mask: PngMask | RleMask | None = None
    if query.mask == "png":
        png = label_map_png(label_map, model.colors)
        mask = PngMask(data=base64.b64encode(png).decode())
    elif query.mask == "rle":
        masks = rle_of_classes(label_map, [present.class_id for present in classes])
        mask = RleMask(
            data=[ClassRunLengths(class_id=class_id, **rle) for class_id, rle in masks.items()]
        )
    return SegmentResponse(
        model=model.name,
        classes=classes,
        mask=mask,
        image=engine_result.prepared.facts,
        timing=engine_result.timing.model_copy(
            update={"render_seconds": time.perf_counter() - started}
        ),
    )


def present_classes(label_map: NDArray[np.uint8], model: ModelInfo) -> list[SegmentedClass]:
    """Count the pixels of the classes that occur, the largest first.

    Args:
        label_map: class ids, (H, W).
        model: names and colours of the classes.
    """
    # Pillow counts bytes; numpy would first widen each one to eight.
    counts = np.array(Image.fromarray(label_map).histogram())
    largest_first = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    return [
        SegmentedClass(
            class_id=class_id,
            label=model.labels[class_id],
            color="#{:02x}{:02x}{:02x}".format(*model.colors[class_id]),
            pixels=int(counts[class_id]),
            fraction=float(counts[class_id] / label_map.size),
        )
        for class_id in largest_first.tolist()
    ]
