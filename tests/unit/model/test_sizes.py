from __future__ import annotations

import pytest
import torch

from model.config import CLASSIFIERS, DEFAULT_NUM_CLASSES, DETECTORS, SEGMENTERS, Task
from model.demo.scenes import CLASS_NAMES, SEGMENT_NAMES
from model.heads.classifier import ImageClassifier
from model.heads.mask_rcnn import MaskRCNN
from model.heads.upernet import UPerNet
from model.sizes import GMACS, PARAMETERS
from model.zoo import Network

DEMO_CLASSES = {Task.CLASSIFY: len(CLASS_NAMES), Task.SEGMENT: len(SEGMENT_NAMES)}


def build(task: Task, name: str) -> Network:
    classes = DEMO_CLASSES[task] if name == "demo" else DEFAULT_NUM_CLASSES[task]
    match task:
        case Task.CLASSIFY:
            return ImageClassifier(CLASSIFIERS[name].backbone, classes, merged=True)
        case Task.SEGMENT:
            segmenter = SEGMENTERS[name]
            return UPerNet(segmenter.backbone, segmenter.head_channels, classes, merged=True)
        case Task.DETECT:
            detector = DETECTORS[name]
            return MaskRCNN(detector.backbone, classes, cascade=detector.cascade, merged=True)


@pytest.mark.parametrize(
    ("task", "name"), [(task, name) for task, names in PARAMETERS.items() for name in names]
)
def test_a_network_has_the_parameters_that_the_table_says(task: Task, name: str) -> None:
    with torch.device("meta"):
        network = build(task, name)
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[task][name]


def test_every_network_is_in_the_table() -> None:
    assert PARAMETERS[Task.CLASSIFY].keys() == CLASSIFIERS.keys()
    assert PARAMETERS[Task.SEGMENT].keys() == SEGMENTERS.keys()
    assert PARAMETERS[Task.DETECT].keys() == DETECTORS.keys()
    assert GMACS.keys() == CLASSIFIERS.keys() - {"demo"}
