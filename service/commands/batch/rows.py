"""The columns of the results, documented and typed, and the rows made of a service's answers."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from model.config import Task
from service.api.schemas import (
    ClassifyResponse,
    DetectResponse,
    EmbedResponse,
    PngMask,
    SegmentResponse,
)
from service.commands.predict.outcome import Document, Failure

Row = dict[str, Any]

ERROR_TYPE = pa.struct([("slug", pa.string()), ("detail", pa.string())])
"""Why there is no result: a problem's slug, as the service has it, and a sentence."""

RUN_LENGTHS = pa.struct([("size", pa.list_(pa.int32(), 2)), ("counts", pa.string())])
"""A mask in COCO's compressed run-length encoding; the size is height and width."""

_CLASS = [("class_id", pa.int32()), ("label", pa.string())]

_TASK_FIELDS: dict[Task, list[tuple[str, pa.DataType]]] = {
    Task.CLASSIFY: [
        ("predictions", pa.list_(pa.struct([*_CLASS, ("score", pa.float32())]))),
    ],
    Task.SEGMENT: [
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("label_map", pa.binary()),
        (
            "classes",
            pa.list_(pa.struct([*_CLASS, ("pixels", pa.int64()), ("fraction", pa.float64())])),
        ),
    ],
    Task.DETECT: [
        ("width", pa.int32()),
        ("height", pa.int32()),
        (
            "detections",
            pa.list_(
                pa.struct(
                    [
                        *_CLASS,
                        ("score", pa.float32()),
                        ("box", pa.list_(pa.float32(), 4)),
                        ("mask", RUN_LENGTHS),
                    ]
                )
            ),
        ),
    ],
}

PLAIN_COLUMNS = ["error.slug", "error.detail"] + [
    f"{column}.list.element.label" for column in ("predictions", "classes", "detections")
]
"""Columns with few values, which Parquet stores once each."""


def schema_of(task: Task, dimension: int | None = None) -> pa.Schema:
    """Return the columns of a task's results; all but ``path`` are null where there is no result.

    Args:
        task: the task.
        dimension: of an embedding.
    """
    fields = (
        [("embedding", pa.list_(pa.float32(), dimension))]
        if task is Task.EMBED
        else _TASK_FIELDS[task]
    )
    return pa.schema(
        [
            pa.field("path", pa.string(), nullable=False),
            pa.field("error", ERROR_TYPE),
            *(pa.field(name, kind) for name, kind in fields),
        ]
    )


def table_of(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Make a table of rows; a column that a row lacks is null."""
    return pa.Table.from_pylist(list(rows), schema)


def failed_row(path: str, failure: Failure) -> Row:
    """Return the row of an image without a result."""
    return {"path": path, "error": {"slug": failure.kind, "detail": failure.detail}}


def row_of(path: str, document: Document) -> Row:
    """Return the row of an answer."""
    size = {"width": document.image.width, "height": document.image.height}
    columns: Row
    match document:
        case ClassifyResponse():
            columns = {"predictions": [each.model_dump() for each in document.predictions]}
        case EmbedResponse():
            columns = {"embedding": document.embedding}
        case SegmentResponse():
            assert isinstance(document.mask, PngMask)
            png = base64.b64decode(document.mask.data)
            classes = [each.model_dump(exclude={"color"}) for each in document.classes]
            columns = size | {"label_map": png, "classes": classes}
        case DetectResponse():
            columns = size | {"detections": [each.model_dump() for each in document.detections]}
        case _:
            raise TypeError(f"{type(document).__name__} has no columns")
    return {"path": path, **columns}
