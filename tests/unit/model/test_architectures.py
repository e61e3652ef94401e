"""What is built, by name or on a backbone of one's own."""

from __future__ import annotations

import pytest

from model.architectures import architecture_of
from model.config import BACKBONES, DETECTORS, ClassificationGeometry, NetworkKind, Task

NANO = BACKBONES["nano"]


@pytest.mark.parametrize(
    ("task", "kind", "built"),
    [
        (None, None, "classifier"),
        (None, "cascade_mask_rcnn", "cascade_mask_rcnn"),
        (Task.CLASSIFY, None, "classifier"),
        ("segment", None, "upernet"),
        ("detect", None, "mask_rcnn"),
        ("detect", "cascade_mask_rcnn", "cascade_mask_rcnn"),
    ],
)
def test_task_and_kind_say_what_is_built_on_a_backbone(
    task: Task | str | None, kind: NetworkKind | None, built: NetworkKind
) -> None:
    architecture = architecture_of(NANO, task, kind)
    assert architecture.kind == built
    assert architecture.config.backbone is NANO


def test_a_backbone_of_ones_own_has_the_papers_input() -> None:
    classifier, segmenter, detector = (
        architecture_of(NANO, task).config.geometry for task in ("classify", "segment", "detect")
    )
    assert classifier == ClassificationGeometry(224, 0.95)
    assert (segmenter.short_side, segmenter.long_side) == (512, 2048)  # type: ignore[union-attr]
    assert detector == DETECTORS["mask_rcnn_overlock_t"].geometry


def test_a_kind_that_does_not_perform_the_task_is_refused() -> None:
    with pytest.raises(ValueError, match="A upernet does not detect; mask_rcnn and cascade_mask"):
        architecture_of(NANO, "detect", "upernet")


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no kind 'yolo'; there are classifier, upernet"):
        architecture_of(NANO, kind="yolo")  # type: ignore[arg-type]


def test_a_name_has_its_kind() -> None:
    architecture = architecture_of("cascade_mask_rcnn_overlock_t")
    assert (architecture.kind, architecture.task) == ("cascade_mask_rcnn", Task.DETECT)
    with pytest.raises(ValueError, match="The name 'overlock_t' says what the network is"):
        architecture_of("overlock_t", kind="classifier")
