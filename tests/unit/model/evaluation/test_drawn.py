from __future__ import annotations

import numpy as np
import pytest

from model.demo.stream import HELD_OUT_SEEDS_END
from model.evaluation.drawn import SCENES, DrawnLabelMaps, DrawnScenes
from model.evaluation.images import EvaluationError
from model.scenes.scenes import CLASS_NAMES, SEGMENT_NAMES, draw_scene


def test_the_scenes_are_never_trained_on() -> None:
    assert len(DrawnScenes(len(CLASS_NAMES), np.asarray)) == SCENES < HELD_OUT_SEEDS_END


def test_an_index_is_a_seed() -> None:
    scene = draw_scene(1234)
    classified = DrawnScenes(len(CLASS_NAMES), np.asarray).read(1234)
    segmented = DrawnLabelMaps(len(SEGMENT_NAMES), np.asarray).read(1234)
    np.testing.assert_array_equal(classified.pixels, scene.image)
    assert classified.class_id == scene.label
    np.testing.assert_array_equal(segmented.label_map, scene.label_map)


@pytest.mark.parametrize("data", [DrawnScenes, DrawnLabelMaps])
def test_a_network_of_other_classes_is_refused(data: type[DrawnScenes | DrawnLabelMaps]) -> None:
    with pytest.raises(EvaluationError, match="classes, the model has 1000"):
        data(1000, np.asarray)
