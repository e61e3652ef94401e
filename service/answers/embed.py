"""Rendering of an embedding."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from service.answers.inference import EngineResult
from service.api.errors import InvalidParameterError
from service.api.queries import EmbedQuery
from service.api.schemas import EmbedResponse
from service.link.messages import ModelInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray


def layer_of(query: EmbedQuery, model: ModelInfo) -> str:
    """Return the layer that a query asks for, by default the model's first one.

    Raises:
        InvalidParameterError: if the model has no such layer.
    """
    if query.layer is None:
        return next(iter(model.layers))
    if query.layer not in model.layers:
        raise InvalidParameterError(
            f"layer is {query.layer!r}; {model.name} has {', '.join(model.layers)}."
        )
    return query.layer


def embedding_of(engine_result: EngineResult, query: EmbedQuery) -> NDArray[np.float32]:
    """Return the embedding, (dimension,), scaled if the query says so."""
    (embedding,) = engine_result.result.arrays
    return unit_vector(embedding) if query.normalize else embedding


def unit_vector(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale a vector to the length 1; the zero vector stays as it is."""
    # float64: the squares of a long float32 vector may overflow.
    length = np.linalg.norm(vector.astype(np.float64))
    return vector if length == 0 else (vector / length).astype(np.float32)


def embed_document(engine_result: EngineResult, query: EmbedQuery) -> EmbedResponse:
    """Return the embedding with its layer."""
    started = time.perf_counter()
    embedding = embedding_of(engine_result, query)
    return EmbedResponse(
        model=engine_result.model.name,
        layer=layer_of(query, engine_result.model),
        dimension=len(embedding),
        normalized=query.normalize,
        embedding=embedding.tolist(),
        image=engine_result.prepared.facts,
        timing=engine_result.timing.model_copy(
            update={"render_seconds": time.perf_counter() - started}
        ),
    )
