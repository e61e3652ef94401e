"""Frozen tables of the named networks: architecture, input geometry, published accuracy.

Torch-free, so that an HTTP worker can read it.

Source: OverLoCK (arXiv:2502.20087), table 1, and the authors' configuration files. ``nano`` is not
the paper's: it is the smallest network with every part of the others, made for the demo weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Literal, NamedTuple, get_args

from model.variants.backbone_config import BackboneConfig as BackboneConfig


class Task(StrEnum):
    """The tasks that can be asked of a network: that which it was trained for, and its insides."""

    CLASSIFY = "classify"
    SEGMENT = "segment"
    DETECT = "detect"
    EMBED = "embed"
    EXPLAIN = "explain"


TRAINED_TASKS = (Task.CLASSIFY, Task.SEGMENT, Task.DETECT)
"""Tasks that a network is trained for; each network has one."""

TRAINED_TASKS_FOR: dict[Task, tuple[Task, ...]] = {
    **{task: (task,) for task in TRAINED_TASKS},
    Task.EMBED: TRAINED_TASKS,
    Task.EXPLAIN: (Task.CLASSIFY,),
}
"""By task, what a network that can do it is trained for; the first that there is, by default."""


class Operation(NamedTuple):
    """A task of a named model. Of a device's time each operation gets a share of its own.

    Attributes:
        model: the model's name.
        task: the task.
    """

    model: str
    task: Task


IMAGE_MEAN = (0.485, 0.456, 0.406)
"""Mean of the training images' RGB channels, of values from 0 to 1."""

IMAGE_STD = (0.229, 0.224, 0.225)
"""Standard deviation of the training images' RGB channels, of values from 0 to 1."""

Interpolation = Literal["bicubic", "bilinear"]
"""A classifier's resize by Pillow, antialiased."""

MAX_LABEL_MAP_CLASSES = 256
"""Maximum number of classes of a label map: its class ids are bytes."""


@dataclass(frozen=True)
class ClassificationGeometry:
    """Resize and crop of a classifier's image (see ``model.images.preprocess``).

    Attributes:
        crop_size: side of the square network input, pixels.
        crop_fraction: part of the resized short side that the crop keeps.
        interpolation: of the resize.
    """

    crop_size: int
    crop_fraction: float
    interpolation: Interpolation = "bicubic"

    @cached_property
    def resize_short_side(self) -> int:
        """Short side after resizing, pixels: floor(crop_size / crop_fraction), as in timm."""
        return int(self.crop_size / self.crop_fraction)


@dataclass(frozen=True)
class ScaledGeometry:
    """Resize of a dense task's image at its aspect ratio (see ``model.images.preprocess``).

    Attributes:
        short_side: upper limit of the short side, pixels.
        long_side: upper limit of the long side, pixels.
        multiple: the network's input has sides that are multiples of this, pixels. A segmenter's
            image is stretched to them, a detector's is padded.
    """

    short_side: int
    long_side: int
    multiple: int = 32


@dataclass(frozen=True)
class ClassifierConfig:
    """A named classifier: backbone, input geometry and published accuracy.

    Attributes:
        backbone: the network's shape.
        geometry: the network's input geometry.
        published_top1: ImageNet-1K top-1 accuracy of the paper, percent; None if it is not the
            paper's network.
    """

    backbone: BackboneConfig
    geometry: ClassificationGeometry
    published_top1: float | None


@dataclass(frozen=True)
class SegmenterConfig:
    """A named segmenter, OverLoCK under UPerNet.

    Attributes:
        backbone: the network's shape.
        geometry: the network's input geometry.
        head_channels: width of every layer of the head.
        published_miou: mean intersection over union on ADE20K of the paper, percent; None if the
            paper has none.
    """

    backbone: BackboneConfig
    geometry: ScaledGeometry
    head_channels: int
    published_miou: float | None


@dataclass(frozen=True)
class PublishedDetection:
    """Average precision on COCO of the paper, percent, for one length of training.

    Attributes:
        schedule: "1x" or "3x".
        box_ap: average precision of the boxes.
        mask_ap: average precision of the masks; None if the paper has none.
    """

    schedule: str
    box_ap: float
    mask_ap: float | None


@dataclass(frozen=True)
class DetectorConfig:
    """A named detector, OverLoCK under Mask R-CNN or Cascade Mask R-CNN.

    Attributes:
        backbone: the network's shape.
        geometry: the network's input geometry.
        cascade: whether three box and mask heads refine each other's boxes.
        published: the paper's results; empty if it has none.
    """

    backbone: BackboneConfig
    geometry: ScaledGeometry
    cascade: bool
    published: tuple[PublishedDetection, ...]


NetworkConfig = ClassifierConfig | SegmenterConfig | DetectorConfig

BACKBONES: dict[str, BackboneConfig] = {
    "overlock_xt": BackboneConfig((2, 2, 3, 2), (6, 2), (56, 112, 256, 336), (4, 6)),
    "overlock_t": BackboneConfig((4, 4, 6, 2), (12, 2), (64, 128, 256, 512), (4, 8)),
    "overlock_s": BackboneConfig((6, 6, 8, 3), (16, 3), (64, 128, 320, 512), (8, 16)),
    "overlock_b": BackboneConfig((8, 8, 10, 4), (20, 4), (80, 160, 384, 576), (6, 9)),
    "nano": BackboneConfig((1, 1, 2, 1), (2, 1), (16, 32, 64, 96), (1, 1), head_channels=256),
}

CLASSIFIERS: dict[str, ClassifierConfig] = {
    "overlock_xt": ClassifierConfig(
        BACKBONES["overlock_xt"], ClassificationGeometry(224, 0.925), 82.7
    ),
    "overlock_t": ClassifierConfig(
        BACKBONES["overlock_t"], ClassificationGeometry(224, 0.95), 84.2
    ),
    "overlock_s": ClassifierConfig(
        BACKBONES["overlock_s"], ClassificationGeometry(224, 0.95), 84.8
    ),
    "overlock_b": ClassifierConfig(
        BACKBONES["overlock_b"], ClassificationGeometry(224, 0.975), 85.1
    ),
    "demo": ClassifierConfig(BACKBONES["nano"], ClassificationGeometry(224, 1.0), None),
}


_SEGMENTATION_INPUT = ScaledGeometry(short_side=512, long_side=2048)
_DETECTION_INPUT = ScaledGeometry(short_side=800, long_side=1333)

SEGMENTERS: dict[str, SegmenterConfig] = {
    f"upernet_{name}": SegmenterConfig(BACKBONES[name], _SEGMENTATION_INPUT, 512, published_miou)
    for name, published_miou in (
        ("overlock_xt", None),
        ("overlock_t", 50.3),
        ("overlock_s", 51.3),
        ("overlock_b", 51.7),
    )
} | {"demo": SegmenterConfig(BACKBONES["nano"], ScaledGeometry(160, 640), 48, None)}

DETECTORS: dict[str, DetectorConfig] = {
    f"{kind}_{name}": DetectorConfig(BACKBONES[name], _DETECTION_INPUT, cascade, published)
    for kind, cascade, name, published in (
        ("mask_rcnn", False, "overlock_xt", ()),
        (
            "mask_rcnn",
            False,
            "overlock_t",
            (PublishedDetection("1x", 48.3, 43.3), PublishedDetection("3x", 49.6, 43.9)),
        ),
        (
            "mask_rcnn",
            False,
            "overlock_s",
            (PublishedDetection("1x", 49.4, 44.0), PublishedDetection("3x", 51.0, 45.0)),
        ),
        (
            "mask_rcnn",
            False,
            "overlock_b",
            (PublishedDetection("1x", 49.9, 44.4), PublishedDetection("3x", 51.4, 45.3)),
        ),
        ("cascade_mask_rcnn", True, "overlock_xt", ()),
        ("cascade_mask_rcnn", True, "overlock_t", (PublishedDetection("3x", 52.4, None),)),
        ("cascade_mask_rcnn", True, "overlock_s", (PublishedDetection("3x", 53.6, None),)),
        ("cascade_mask_rcnn", True, "overlock_b", (PublishedDetection("3x", 53.9, None),)),
    )
}

NetworkKind = Literal["classifier", "upernet", "mask_rcnn", "cascade_mask_rcnn"]
"""What can be built on a backbone of one's own."""


def variant_config(backbone: BackboneConfig, kind: NetworkKind = "classifier") -> NetworkConfig:
    """Return the configuration of a network on a backbone of one's own.

    The input is the paper's: a crop of 224 of 235 pixels (T's and S's) for a classifier, ADE20K's
    and COCO's for the others. A segmenter's head has 512 channels.

    Raises:
        ValueError: if the kind is unknown.
    """
    match kind:
        case "classifier":
            return ClassifierConfig(backbone, ClassificationGeometry(224, 0.95), None)
        case "upernet":
            return SegmenterConfig(backbone, _SEGMENTATION_INPUT, 512, None)
        case "mask_rcnn" | "cascade_mask_rcnn":
            return DetectorConfig(backbone, _DETECTION_INPUT, kind == "cascade_mask_rcnn", ())
    raise ValueError(f"There is no kind {kind!r}; there are {', '.join(get_args(NetworkKind))}.")


DEFAULT_NUM_CLASSES = {Task.CLASSIFY: 1000, Task.SEGMENT: 150, Task.DETECT: 80}
"""Classes of the paper's data sets, ImageNet-1K, ADE20K and COCO, by task."""


PARAMETERS: dict[Task, dict[str, int]] = {
    Task.CLASSIFY: {
        "overlock_xt": 16_453_712,
        "overlock_t": 33_467_040,
        "overlock_s": 56_156_452,
        "overlock_b": 94_942_528,
        "demo": 708_754,
    },
    Task.SEGMENT: {
        "upernet_overlock_xt": 44_095_550,
        "upernet_overlock_t": 62_383_310,
        "upernet_overlock_s": 85_105_618,
        "upernet_overlock_b": 124_408_206,
        "demo": 986_659,
    },
    Task.DETECT: {
        "mask_rcnn_overlock_xt": 35_284_324,
        "mask_rcnn_overlock_t": 52_334_248,
        "mask_rcnn_overlock_s": 75_040_172,
        "mask_rcnn_overlock_b": 113_885_400,
        "cascade_mask_rcnn_overlock_xt": 68_212_594,
        "cascade_mask_rcnn_overlock_t": 85_262_518,
        "cascade_mask_rcnn_overlock_s": 107_968_442,
        "cascade_mask_rcnn_overlock_b": 146_813_670,
    },
}
"""Parameters by task and network, counted as in the paper: with the classes of ImageNet-1K, ADE20K,
COCO or the drawn scenes, branches merged, and without the head that only training needs."""


GMACS: dict[str, float] = {
    "overlock_xt": 2.7,
    "overlock_t": 5.6,
    "overlock_s": 9.9,
    "overlock_b": 17.1,
}
"""Billions of multiply-adds of the paper's classifiers for an image of 224 by 224."""
