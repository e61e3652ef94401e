"""Rendering of engines' results into named tensors, for the Open Inference Protocol.

The numbers are those of the documents of ``/v1``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from model.config import Task
from service.answers.classify import best_classes, scores_of
from service.answers.detect import pasted, selected
from service.answers.embed import embedding_of
from service.answers.inference import EngineResult
from service.answers.segment import present_classes
from service.api.queries import ClassifyQuery, DetectQuery, EmbedQuery, SegmentQuery

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shape = tuple[int, ...]

DTYPES = {"FP32": "<f4", "INT64": "<i8", "UINT8": "u1"}
"""Little-endian types of numpy by the protocol's names; BYTES has none."""


@dataclass(frozen=True)
class TensorInfo:
    """Name, type and shape of a tensor; -1 is any length."""

    name: str
    datatype: str
    shape: Shape


EMBEDDING = TensorInfo("embedding", "FP32", (-1, -1))

OUTPUTS: dict[Task, tuple[TensorInfo, ...]] = {
    Task.CLASSIFY: (
        TensorInfo("class_ids", "INT64", (-1, -1)),
        TensorInfo("scores", "FP32", (-1, -1)),
        TensorInfo("labels", "BYTES", (-1, -1)),
        TensorInfo("logits", "FP32", (-1, -1)),
        EMBEDDING,
    ),
    Task.SEGMENT: (
        TensorInfo("label_map", "UINT8", (-1, -1, -1)),
        TensorInfo("class_ids", "INT64", (-1, -1)),
        TensorInfo("fractions", "FP32", (-1, -1)),
        EMBEDDING,
    ),
    Task.DETECT: (
        TensorInfo("boxes", "FP32", (-1, -1, 4)),
        TensorInfo("scores", "FP32", (-1, -1)),
        TensorInfo("class_ids", "INT64", (-1, -1)),
        TensorInfo("labels", "BYTES", (-1, -1)),
        TensorInfo("masks", "BYTES", (-1, -1)),
        EMBEDDING,
    ),
}
"""Outputs of a model by its task; the first dimension is the images'."""

DEFAULT_OUTPUTS = 3
"""How many of them, from the first, answer a call that names none."""


@dataclass(frozen=True)
class OutputTensor:
    """A tensor of an answer.

    Attributes:
        name: of an output.
        datatype: the protocol's name of its type.
        shape: of the values.
        values: an array, or the elements of BYTES in row order.
    """

    name: str
    datatype: str
    shape: Shape
    values: NDArray[Any] | list[bytes]

    def raw(self) -> bytes:
        """Return the values as the binary extension and gRPC send them.

        Numbers are little endian, in row order; each element of BYTES has its length before it, in
        four bytes.
        """
        if isinstance(self.values, list):
            return b"".join(struct.pack("<I", len(each)) + each for each in self.values)
        return self.values.astype(DTYPES[self.datatype], copy=False).tobytes()


@dataclass(frozen=True)
class Answers:
    """The answers to one call, by task, and how they are rendered.

    Attributes:
        own: of the model's own task, one for each image; empty where only embeddings were asked.
        embedded: its embeddings, one for each image; empty where none were asked.
        query: of the model's own task.
        embed_query: of the embeddings.
    """

    own: Sequence[EngineResult]
    embedded: Sequence[EngineResult]
    query: ClassifyQuery | SegmentQuery | DetectQuery
    embed_query: EmbedQuery

    def tensors(self, names: Sequence[str]) -> list[OutputTensor]:
        """Render outputs, in the order of their names."""
        made: dict[str, NDArray[Any] | list[list[bytes]]] = {}
        if self.embedded:
            made["embedding"] = np.stack(
                [embedding_of(each, self.embed_query) for each in self.embedded]
            )
        if self.own:
            made |= _RENDERERS[self.own[0].model.task](self, names)
        return [_tensor(name, made[name]) for name in names]


def _tensor(name: str, values: NDArray[Any] | list[list[bytes]]) -> OutputTensor:
    if isinstance(values, list):
        shape = (len(values), len(values[0]))
        return OutputTensor(name, "BYTES", shape, [each for row in values for each in row])
    datatype = next(name for name, dtype in DTYPES.items() if np.dtype(dtype) == values.dtype)
    return OutputTensor(name, datatype, values.shape, values)


_Made = dict[str, "NDArray[Any] | list[list[bytes]]"]


def _classified(answers: Answers, names: Sequence[str]) -> _Made:
    query, model = answers.query, answers.own[0].model
    assert isinstance(query, ClassifyQuery)
    logits = [each.result.arrays[0] for each in answers.own]
    made: _Made = {}
    if "logits" in names:
        made["logits"] = np.stack(logits)
    if {"class_ids", "scores", "labels"}.intersection(names):
        scores = [scores_of(each, model.activation) for each in logits]
        best = [best_classes(each, query.top_k) for each in scores]
        made["class_ids"] = np.stack(best).astype(np.int64)
        made["scores"] = np.stack([each[ids] for each, ids in zip(scores, best, strict=True)])
        made["labels"] = [_labels(model.labels, ids) for ids in best]
    return made


def _segmented(answers: Answers, _: Sequence[str]) -> _Made:
    (segmented,) = answers.own
    label_map = segmented.result.arrays[0]
    classes = present_classes(label_map, segmented.model)
    return {
        "label_map": label_map[None],
        "class_ids": np.array([[each.class_id for each in classes]], np.int64),
        "fractions": np.array([[each.fraction for each in classes]], np.float32),
    }


def _detected(answers: Answers, names: Sequence[str]) -> _Made:
    (detected,), query = answers.own, answers.query
    assert isinstance(query, DetectQuery)
    found = selected(detected, query)
    made: _Made = {
        "boxes": found.boxes[None],
        "scores": found.scores[None],
        "class_ids": found.labels[None].astype(np.int64),
        "labels": [_labels(detected.model.labels, found.labels)],
    }
    if "masks" in names:
        places = range(len(found.scores))
        made["masks"] = [[msgspec.json.encode(pasted(found, p, detected)) for p in places]]
    return made


def _labels(labels: Sequence[str], class_ids: NDArray[Any]) -> list[bytes]:
    return [labels[class_id].encode() for class_id in class_ids.tolist()]


_RENDERERS: dict[Task, Callable[[Answers, Sequence[str]], _Made]] = {
    Task.CLASSIFY: _classified,
    Task.SEGMENT: _segmented,
    Task.DETECT: _detected,
}
