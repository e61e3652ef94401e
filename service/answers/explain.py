"""Rendering of an explanation: class maps, as numbers and over the image."""

from __future__ import annotations

import time

from model.images.preprocess import classified_region
from service.answers.classify import scores_of
from service.answers.drawing.heat_maps import HeatMap, heat_maps_png
from service.answers.drawing.tags import shortened
from service.answers.inference import EngineResult
from service.api.errors import InvalidParameterError
from service.api.queries import ExplainQuery
from service.api.schemas import ClassMap, ExplainResponse, Region
from service.images.preparation import crop_of
from service.link.messages import BEST, ModelInfo

NO_OVERVIEW = (
    "The weights have no auxiliary head (aux_head.*), which the authors' ImageNet files have."
)


def class_ids_of(query: ExplainQuery, model: ModelInfo) -> tuple[int, ...]:
    """Return the classes to map, ``BEST`` for each of the most likely ones.

    Raises:
        InvalidParameterError: if the model has not so many classes or none of an id, an id is
            given twice, or beside ``top_k``, or there is no overview to draw.
    """
    classes, wanted = len(model.labels), query.class_id
    if query.view != "focus" and not model.has_overview:
        raise InvalidParameterError(
            f"view is {query.view}, but there is no overview. {NO_OVERVIEW}"
        )
    if not wanted:
        if query.top_k > classes:
            raise InvalidParameterError(
                f"top_k is {query.top_k}; {model.name} has {classes} classes."
            )
        return (BEST,) * query.top_k
    if "top_k" in query.model_fields_set:
        raise InvalidParameterError("top_k and class_id exclude each other; give one of them.")
    for place, class_id in enumerate(wanted):
        if class_id >= classes:
            raise InvalidParameterError(
                f"class_id is {class_id}; the classes of {model.name} are 0 to {classes - 1}."
            )
        if class_id in wanted[:place]:
            raise InvalidParameterError(f"class_id {class_id} is given twice; give it once.")
    return tuple(wanted)


def explain_document(engine_result: EngineResult) -> ExplainResponse:
    """List the class maps."""
    started = time.perf_counter()
    model, facts = engine_result.model, engine_result.prepared.facts
    logits, class_ids, focus, *overviews = engine_result.result.arrays
    scores = scores_of(logits, model.activation)
    overview = overviews[0] if overviews else None
    return ExplainResponse(
        model=model.name,
        size=list(focus.shape[1:]),
        region=region_of(engine_result),
        maps=[
            ClassMap(
                class_id=class_id,
                label=model.labels[class_id],
                score=float(scores[class_id]),
                logit=float(logits[class_id]),
                focus=focus[place].tolist(),
                overview=None if overview is None else overview[place].tolist(),
            )
            for place, class_id in enumerate(class_ids.tolist())
        ],
        overview_logits_available=model.has_overview,
        reason=None if model.has_overview else NO_OVERVIEW,
        image=facts,
        timing=engine_result.timing.model_copy(
            update={"render_seconds": time.perf_counter() - started}
        ),
    )


def region_of(engine_result: EngineResult) -> Region:
    """Return the part of the image that the maps cover: the evaluation crop, mapped back."""
    facts = engine_result.prepared.facts
    x, y, width, height = classified_region(
        facts.width, facts.height, crop_of(engine_result.model.input)
    )
    return Region(x=x, y=y, width=width, height=height)


def explain_picture(engine_result: EngineResult, query: ExplainQuery) -> bytes:
    """Draw the first class's map over the image: that of a look, or of both side by side.

    The score stands on the map of the focus, whose mean is the logit that it comes from.
    """
    engine_result.raise_if_cancelled()
    model = engine_result.model
    logits, class_ids, focus, *overviews = engine_result.result.arrays
    class_id = int(class_ids[0])
    label = shortened(model.labels[class_id])
    scored = f"{label} {100 * float(scores_of(logits, model.activation)[class_id]):.0f} %"
    drawn = {
        "overview": [
            HeatMap(maps[0], ("overview: " + label, label, "overview")) for maps in overviews
        ],
        "focus": [HeatMap(focus[0], ("focus: " + scored, scored, label, "focus"))],
    }
    return heat_maps_png(
        engine_result.decode(),
        [*drawn["overview"], *drawn["focus"]] if query.view == "both" else drawn[query.view],
        region_of(engine_result),
        raise_if_cancelled=engine_result.raise_if_cancelled,
    )
