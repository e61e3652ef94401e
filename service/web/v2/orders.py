"""Outputs and parameters of a call, checked against its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from model.config import Task
from service.answers.classify import check_query
from service.answers.embed import layer_of
from service.answers.tensors import DEFAULT_OUTPUTS, EMBEDDING, OUTPUTS
from service.api.errors import InvalidParameterError, MalformedRequestError
from service.api.queries import (
    MAX_TIMEOUT_SECONDS,
    ClassifyQuery,
    DetectQuery,
    EmbedQuery,
    EmptyQuery,
    SegmentQuery,
)
from service.link.messages import ModelInfo, Question
from service.web.http.problems import invalid_parameters
from service.web.v2.calls import MAX_SHOWN, Parameter

OwnQuery = ClassifyQuery | SegmentQuery | DetectQuery
"""Queries of the tasks that models have."""

QueryT = TypeVar("QueryT", bound=EmptyQuery)

TIMEOUT = "timeout"

TILES = ("tile", "overlap")

OWN_PARAMETERS = {
    Task.CLASSIFY: ("top_k",),
    Task.SEGMENT: TILES,
    Task.DETECT: ("score_threshold", "max_detections", *TILES),
}
"""Parameters of ``/v1`` that say how a model's own outputs are made."""

EMBED_PARAMETERS = ("layer", "normalize")

SWITCHES = {Task.CLASSIFY: "logits", Task.SEGMENT: None, Task.DETECT: "masks"}
"""Parameters of ``/v1`` that are outputs here: true adds one to the outputs of a call that names
none."""


@dataclass(frozen=True)
class Order:
    """What a call asks of its model for each image.

    Attributes:
        outputs: names, in the order of the answer.
        questions: to the engines: the model's own task, its embedding, or both.
        query: how the own task's outputs are made.
        embed_query: how embeddings are made.
        timeout_seconds: the caller's; None for the default one.
    """

    outputs: tuple[str, ...]
    questions: tuple[Question, ...]
    query: OwnQuery
    embed_query: EmbedQuery
    timeout_seconds: float | None

    @property
    def tiled(self) -> SegmentQuery | DetectQuery | None:
        """The query, if it wants the image in tiles."""
        if isinstance(self.query, ClassifyQuery) or self.query.tile is None:
            return None
        return self.query

    def check_images(self, images: int, model: ModelInfo) -> None:
        """Check the number of a call's images.

        Raises:
            InvalidParameterError: if there are several for a dense task's own outputs, whose
                shapes differ.
        """
        if images > 1 and self.questions[0].task in {Task.SEGMENT, Task.DETECT}:
            raise InvalidParameterError(
                f"The call has {images} images; {model.name} can {model.task} one a call, since "
                "the shapes of its outputs differ."
            )


def order_of(
    model: ModelInfo, parameters: Mapping[str, Parameter], outputs: Sequence[str]
) -> Order:
    """Check what a call asks for.

    Args:
        model: that it names.
        parameters: of the call.
        outputs: names of those asked for; empty for the model's first ones.

    Raises:
        MalformedRequestError: if there is no such output or parameter.
        InvalidParameterError: if a parameter's value is out of range.
    """
    texts = {name: _text(name, value) for name, value in parameters.items() if name != TIMEOUT}
    names = _outputs_of(model, outputs, texts)
    _refuse_unknown(model, [name for name in texts if name not in _known(model)])
    query = _query_of(model, texts)
    embed_query = _checked(EmbedQuery, {n: v for n, v in texts.items() if n in EMBED_PARAMETERS})
    questions = []
    if set(names) != {EMBEDDING.name}:
        questions.append(Question(model.task))
    if EMBEDDING.name in names:
        questions.append(Question(Task.EMBED, layer=layer_of(embed_query, model)))
    order = Order(names, tuple(questions), query, embed_query, _timeout_of(parameters))
    if order.tiled is not None and EMBEDDING.name in names:
        raise InvalidParameterError(
            f"tile is {order.tiled.tile}: the output {EMBEDDING.name} is of the whole image; ask "
            "for it in a call without tile."
        )
    return order


def _known(model: ModelInfo) -> list[str]:
    switch = SWITCHES[model.task]
    return [
        *OWN_PARAMETERS[model.task],
        *([] if switch is None else [switch]),
        *EMBED_PARAMETERS,
        TIMEOUT,
    ]


def _refuse_unknown(model: ModelInfo, unknown: Sequence[str]) -> None:
    if unknown:
        raise MalformedRequestError(
            f"There is no parameter {unknown[0][:MAX_SHOWN]!r} of {model.name}; there are "
            f"{', '.join(_known(model))}."
        )


def _outputs_of(
    model: ModelInfo, asked: Sequence[str], texts: Mapping[str, str]
) -> tuple[str, ...]:
    offered = [output.name for output in OUTPUTS[model.task]]
    switch = SWITCHES[model.task]
    if not asked:
        switched = [switch] if switch is not None and texts.get(switch) == "true" else []
        return (*offered[:DEFAULT_OUTPUTS], *switched)
    for place, name in enumerate(asked):
        if name not in offered:
            raise MalformedRequestError(
                f"There is no output {name[:MAX_SHOWN]!r} of {model.name}; there are "
                f"{', '.join(offered)}."
            )
        if name in asked[:place]:
            raise MalformedRequestError(f"Output {name} is asked for twice; ask once.")
    return tuple(asked)


def _query_of(model: ModelInfo, texts: Mapping[str, str]) -> OwnQuery:
    names = (*OWN_PARAMETERS[model.task], SWITCHES[model.task])
    values = {name: value for name, value in texts.items() if name in names}
    match model.task:
        case Task.CLASSIFY:
            query = _checked(ClassifyQuery, values)
            check_query(query, model)
            return query
        case Task.SEGMENT:
            return _checked(SegmentQuery, values)
    return _checked(DetectQuery, values)


def _checked(kind: type[QueryT], values: Mapping[str, str]) -> QueryT:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise invalid_parameters(error.errors()) from error


def _text(name: str, value: Parameter) -> str:
    """Write a parameter as it stands in a query of ``/v1``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | str):
        return str(value)
    raise MalformedRequestError(
        f"Parameter {name[:MAX_SHOWN]!r} has to be a string, a number, true or false."
    )


def _timeout_of(parameters: Mapping[str, Parameter]) -> float | None:
    """Return the timeout in seconds; None without one, and for 0, which is Triton's default."""
    value = parameters.get(TIMEOUT, 0)
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value[:MAX_SHOWN])
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidParameterError(
            f"timeout is {str(value)[:MAX_SHOWN]!r}; it has to be a whole number of microseconds."
        )
    return min(value / 1e6, MAX_TIMEOUT_SECONDS) or None
