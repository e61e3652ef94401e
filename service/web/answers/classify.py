"""The answer to ``classify``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from model.ranking import best_classes
from service.errors import InvalidParameterError
from service.link.messages import ModelInfo
from service.web.journey import Answered
from service.web.schemas import ClassifyQuery, ClassifyResponse, Prediction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def check_query(query: ClassifyQuery, model: ModelInfo) -> None:
    """Refuse what only the model can tell is too much.

    Raises:
        InvalidParameterError: if more classes are wanted than there are.
    """
    # The default is for a thousand classes; only a caller's own wish can be too large.
    if "top_k" in query.model_fields_set and query.top_k > len(model.labels):
        raise InvalidParameterError(
            f"top_k is {query.top_k}; {model.name} has {len(model.labels)} classes."
        )


def classify_document(answered: Answered, query: ClassifyQuery) -> ClassifyResponse:
    """Name the most likely classes."""
    started = time.perf_counter()
    scores, model = answered.result.arrays[0], answered.model
    return ClassifyResponse(
        model=model.name,
        predictions=best_predictions(scores, model.labels, query.top_k),
        image=answered.prepared.facts,
        timing=answered.timing(time.perf_counter() - started),
    )


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
