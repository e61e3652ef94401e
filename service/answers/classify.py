"""Rendering of a classification."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from service.answers.inference import EngineResult
from service.api.errors import InvalidParameterError
from service.api.queries import ClassifyQuery
from service.api.schemas import ClassifyResponse, Prediction
from service.link.messages import ModelInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray


def check_query(query: ClassifyQuery, model: ModelInfo) -> None:
    """Check a query against the model's number of classes.

    Raises:
        InvalidParameterError: if it asks for more classes than the model has.
    """
    # The default may exceed a small model's classes; only a value that was sent can be too large.
    if "top_k" in query.model_fields_set and query.top_k > len(model.labels):
        raise InvalidParameterError(
            f"top_k is {query.top_k}; {model.name} has {len(model.labels)} classes."
        )


def classify_document(engine_result: EngineResult, query: ClassifyQuery) -> ClassifyResponse:
    """List the most likely classes."""
    started = time.perf_counter()
    logits, model = engine_result.result.arrays[0], engine_result.model
    scores = scores_of(logits, model.activation)
    return ClassifyResponse(
        model=model.name,
        predictions=best_predictions(scores, model.labels, query.top_k),
        logits=logits.tolist() if query.logits else None,
        image=engine_result.prepared.facts,
        timing=engine_result.timing.model_copy(
            update={"render_seconds": time.perf_counter() - started}
        ),
    )


def scores_of(
    logits: NDArray[np.floating[Any]], activation: Literal["softmax", "sigmoid"]
) -> NDArray[np.floating[Any]]:
    """Return the classes' scores, 0 to 1.

    Args:
        logits: one for each class, (classes,), finite.
        activation: "softmax" for one class of all, "sigmoid" for each class by itself.
    """
    if activation == "softmax":
        shares: NDArray[np.floating[Any]] = np.exp(logits - logits.max())
        shares /= shares.sum()
        return shares
    # Of both forms of the sigmoid the one whose exponential cannot overflow.
    small = np.exp(-np.abs(logits))
    either: NDArray[np.floating[Any]] = np.where(logits >= 0, 1, small) / (1 + small)
    return either.astype(logits.dtype)


def best_predictions(
    scores: NDArray[np.floating[Any]], labels: tuple[str, ...], top_k: int
) -> list[Prediction]:
    """Pick the ``top_k`` classes with the highest scores, best first; equal ones by class id.

    Args:
        scores: one for each class, (classes,).
        labels: the classes' names.
        top_k: from 1 to the number of classes.
    """
    return [
        Prediction(class_id=class_id, label=labels[class_id], score=float(scores[class_id]))
        for class_id in best_classes(scores, top_k).tolist()
    ]


def best_classes(scores: NDArray[np.floating[Any]], count: int) -> NDArray[np.intp]:
    """Return the class ids with the highest scores, best first; equal ones by class id.

    Sorts only the best: usually five of a thousand classes are requested.

    Args:
        scores: one for each class, (classes,), without NaN.
        count: at least 1; if there are fewer classes, all are returned.
    """
    last = max(len(scores) - count, 0)
    candidates = np.flatnonzero(scores >= np.partition(scores, last)[last])
    return candidates[np.argsort(-scores[candidates], kind="stable")][:count]
