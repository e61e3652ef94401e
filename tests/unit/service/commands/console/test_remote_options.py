from __future__ import annotations

import pytest
from msgspec.structs import replace

from service.api.schemas import ServedModel
from service.commands.console.exits import RefusedError
from service.commands.console.remote_options import models_for
from service.link.messages import ModelInfo
from service.web.routes.models import served_model
from support.service_fakes import CLASSIFIER, DETECTOR, SEGMENTER, WELCOME

URL = "http://service"
BIRDS = replace(CLASSIFIER, name="birds")


def served(*models: ModelInfo, engines: int = 1) -> list[ServedModel]:
    offer = replace(WELCOME, models=models)
    return [served_model(model, offer) for model in models] * engines


def test_a_tasks_default_model_is_found_on_each_device() -> None:
    models = served(CLASSIFIER, BIRDS, SEGMENTER, engines=2)
    for task in ("classify", "embed", "explain"):
        found = models_for(task, models, URL)
        assert [model.name for model in found] == ["demo", "demo"]
    assert [model.name for model in models_for("segment", models, URL)] == ["demo-segment"] * 2


def test_every_model_embeds_and_classifiers_explain() -> None:
    models = served(CLASSIFIER, BIRDS, SEGMENTER, DETECTOR)
    for model in models:
        assert models_for("embed", models, URL, model.name) == [model]
    assert models_for("explain", models, URL, "birds") == [models[1]]
    with pytest.raises(RefusedError, match="no model demo-segment that can explain; it has demo, "):
        models_for("explain", models, URL, "demo-segment")


def test_without_a_classifier_the_segmenter_embeds_and_nothing_explains() -> None:
    models = served(SEGMENTER, DETECTOR)
    (found,) = models_for("embed", models, URL)
    assert found.name == "demo-segment"
    with pytest.raises(RefusedError, match="does not explain; it serves: segment, detect"):
        models_for("explain", models, URL)
