"""The demo's data: drawn scenes of held-out seeds, never trained on."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from model.evaluation.datasets import ClassifiedImage, Prepare, SegmentedImage
from model.evaluation.images import EvaluationError
from model.scenes.scenes import CLASS_NAMES, SEGMENT_NAMES, draw_scene

SCENES = 2000
"""Number of scenes; their seeds are 0 to 1999, as in the demo weights' own metrics."""

SIDE_PIXELS = 224
"""Height and width of a scene, as in those metrics."""


class DrawnScenes:
    """The demo's held-out scenes, with the class of the main shape."""

    covers_all_classes = True

    def __init__(self, num_classes: int, prepare: Prepare) -> None:
        _check_scene_classes(num_classes, CLASS_NAMES)
        self._prepare = prepare

    def __len__(self) -> int:
        return SCENES

    def read(self, index: int) -> ClassifiedImage:
        """Draw one scene."""
        scene = draw_scene(index, SIDE_PIXELS, SIDE_PIXELS)
        return ClassifiedImage(self._prepare(Image.fromarray(scene.image)), scene.label)


class DrawnLabelMaps:
    """The demo's held-out scenes, with the class of every pixel."""

    covers_all_classes = True

    def __init__(self, num_classes: int, prepare: Prepare) -> None:
        _check_scene_classes(num_classes, SEGMENT_NAMES)
        self._prepare = prepare

    def __len__(self) -> int:
        return SCENES

    def read(self, index: int) -> SegmentedImage:
        """Draw one scene."""
        scene = draw_scene(index, SIDE_PIXELS, SIDE_PIXELS)
        return SegmentedImage(self._prepare(Image.fromarray(scene.image)), scene.label_map)


def _check_scene_classes(num_classes: int, names: Sequence[str]) -> None:
    if num_classes != len(names):
        raise EvaluationError(
            f"The drawn scenes have {len(names)} classes, the model has {num_classes}."
        )
