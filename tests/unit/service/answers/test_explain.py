"""Pictures of explanations: what stands on them, and whom nobody waits for."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from PIL import Image

from service.answers.explain import explain_picture
from service.answers.inference import EngineResult, RenderCancelledError
from service.api.queries import ExplainQuery
from service.api.schemas import ImageFacts, Timing
from service.images.preparation import PreparedImage
from service.link.messages import InferenceResult, NetworkInput
from support.service_fakes import CLASSIFIER

GRID = np.arange(49, dtype=np.float32).reshape(1, 7, 7)
STAR = 2
FOCUS, OVERVIEW = ExplainQuery(), ExplainQuery(view="overview")


def test_the_score_stands_on_the_focus_alone() -> None:
    sure, unsure = answered(star_logit=9), answered(star_logit=1)
    assert explain_picture(sure, FOCUS) != explain_picture(unsure, FOCUS)
    assert explain_picture(sure, OVERVIEW) == explain_picture(unsure, OVERVIEW)


@pytest.mark.parametrize("query", [FOCUS, OVERVIEW])
def test_the_class_stands_on_both_looks(query: ExplainQuery) -> None:
    star, ring = answered(star_logit=0), answered(star_logit=0, class_id=3)  # of equal scores
    assert explain_picture(star, query) != explain_picture(ring, query)


def test_a_picture_that_nobody_waits_for_is_not_decoded() -> None:
    result = answered()
    result.cancelled.set()
    with pytest.raises(RenderCancelledError):
        explain_picture(result, FOCUS)


def test_a_picture_whose_caller_leaves_while_it_is_decoded_is_not_drawn() -> None:
    result = answered(leaves=True)
    with pytest.raises(RenderCancelledError):
        explain_picture(result, FOCUS)


def answered(star_logit: float = 3, class_id: int = STAR, *, leaves: bool = False) -> EngineResult:
    """Return an answer for a black image of 300 by 200; it may be decoded once if it ``leaves``."""
    cancelled = threading.Event()

    def decode() -> Image.Image:
        assert not cancelled.is_set()
        if leaves:
            cancelled.set()
        return Image.new("RGB", (300, 200))

    logits = np.array([0, 0, star_logit, 0], np.float32)
    pixels = np.zeros((224, 224, 3), np.uint8)
    return EngineResult(
        model=CLASSIFIER,
        prepared=PreparedImage(
            NetworkInput(pixels, (224, 224), (200, 300)),
            ImageFacts(width=300, height=200, frames=1),
            decode_seconds=0,
        ),
        result=InferenceResult(
            (logits, np.array([class_id]), GRID, -GRID),
            queue_seconds=0,
            inference_seconds=0,
            batch_size=1,
        ),
        timing=Timing(
            decode_seconds=0, queue_seconds=0, inference_seconds=0, render_seconds=0, batch_size=1
        ),
        decode=decode,
        cancelled=cancelled,
    )
