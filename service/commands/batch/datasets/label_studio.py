"""Label Studio's tasks with predictions, as JSON, and the labelling interface for them, as XML.

Source: https://labelstud.io/guide/predictions and https://labelstud.io/tags/brushlabels
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from model.labels.palettes import palette_of
from service.commands.batch.datasets.brush import brush_runs
from service.commands.batch.datasets.images import FoundImage, FoundImages, FoundObject
from service.commands.batch.datasets.json_lists import write_list
from service.commands.batch.datasets.outlines import polygons_of

LOCAL_FILES = "/data/local-files/?d="
"""Where Label Studio serves files of its document root."""

RECTANGLE, POLYGON, BRUSH = "RectangleLabels", "PolygonLabels", "BrushLabels"
CONTROL, IMAGE = "label", "image"
"""Names of the interface's two tags."""


def control_of(task: str, options: dict[str, Any]) -> str:
    """Return the tag whose regions a run's objects are: editable outlines, or painted pixels.

    Args:
        task: "detect" or "segment".
        options: as the identity of the run has them.
    """
    if task == "segment":
        return BRUSH
    return POLYGON if options["masks"] else RECTANGLE


def interface(control: str, labels: Sequence[str]) -> bytes:
    """Return the labelling interface."""
    lines = [
        '    <Label value={} background="#{:02x}{:02x}{:02x}"/>'.format(quoteattr(label), *color)
        for label, color in zip(labels, palette_of(labels), strict=True)
    ]
    return "\n".join(
        [
            "<View>",
            f'  <Image name="{IMAGE}" value="$image" zoom="true"/>',
            f'  <{control} name="{CONTROL}" toName="{IMAGE}">',
            *lines,
            f"  </{control}>",
            "</View>\n",
        ]
    ).encode()


def write_tasks(file: BinaryIO, images: FoundImages, model: dict[str, Any], control: str) -> None:
    """Write a task for each image.

    Args:
        file: to write to.
        images: of the run.
        model: as the identity of the run has it.
        control: the interface's tag for regions.
    """
    version = f"{model['name']} {(model['weights_sha256'] or model['weights'])[:12]}"
    write_list(file, (_task(image, model["labels"], version, control) for image in images))
    file.write(b"\n")


def _task(image: FoundImage, labels: Sequence[str], version: str, control: str) -> dict[str, Any]:
    scores = [each.score for each in image.objects if each.score is not None]
    score = {"score": round(sum(scores) / len(scores), 6)} if scores else {}
    return {
        "data": {"image": _address(image.path), "path": image.path},
        "predictions": [
            {
                "model_version": version,
                **score,
                "result": [
                    {"id": f"region-{number}", **region}
                    for number, region in enumerate(_regions(image, labels, control))
                ],
            }
        ],
    }


def _address(path: str) -> str:
    """Return what Label Studio shows: an address, or a file of its document root."""
    return path if "://" in path else LOCAL_FILES + quote(path.lstrip("/"))


def _regions(image: FoundImage, labels: Sequence[str], control: str) -> Iterator[dict[str, Any]]:
    kind = control.lower()
    for found in image.objects:
        for value in _values(found, image, control):
            score = {} if found.score is None else {"score": round(found.score, 6)}
            yield {
                "type": kind,
                "from_name": CONTROL,
                "to_name": IMAGE,
                "original_width": image.width,
                "original_height": image.height,
                "image_rotation": 0,
                "value": value | {kind: [labels[found.class_id]]},
                **score,
            }


def _values(found: FoundObject, image: FoundImage, control: str) -> Iterator[dict[str, Any]]:
    """Yield the shapes of an object, in percent of the image's sides, or pixel by pixel."""
    size = np.array([image.width, image.height], np.float64)
    if control == BRUSH:
        pixels = found.pixels
        if pixels is not None:
            yield {"format": "rle", "rle": brush_runs(pixels)}
    elif control == POLYGON:
        for polygon in polygons_of(found):
            yield {"points": _percent(polygon, size), "closed": True}
    else:
        assert found.box is not None
        (x, y), (right, bottom) = _percent(np.reshape(found.box, (2, 2)), size)
        width, height = round(right - x, 4), round(bottom - y, 4)
        yield {"x": x, "y": y, "width": width, "height": height, "rotation": 0}


def _percent(points: Any, size: Any) -> list[list[float]]:
    shares: list[list[float]] = np.clip(100 * points / size, 0, 100).round(4).tolist()
    return shares
