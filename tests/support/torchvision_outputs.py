"""torchvision's outputs on the problems of ``support.box_problems``, stored and computed.

``tests/golden/torchvision.npz`` holds those of torchvision 0.29.1 beside torch 2.14.1, on a CPU.
In an environment of its own, from the repository's root:

    pip install torch==2.14.1 torchvision==0.29.1 numpy
    PYTHONPATH=tests python -m support.torchvision_outputs
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from support import box_problems
from support.box_problems import STRIDE, RoiAlignProblem

STORED = Path(__file__).parents[1] / "golden" / "torchvision.npz"

LARGEST_LOG_SCALE = float(np.log(1000 / 16))
"""A side's growth, as ``model.heads.boxes`` bounds it too."""


@cache
def sources() -> Mapping[str, Mapping[str, Tensor]]:
    """Return the stored outputs, and the installed torchvision's where its operators load."""
    stored = np.load(STORED)
    found = {"stored": {key: torch.from_numpy(stored[key]) for key in stored.files}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries that only its image files need
        try:
            ops = import_module("torchvision.ops")
        except (ImportError, RuntimeError):  # a build for another PyTorch raises a RuntimeError
            return found
    return found | {f"torchvision {import_module('torchvision').__version__}": computed(ops)}


def computed(ops: ModuleType) -> dict[str, Tensor]:
    """Solve every problem with torchvision's operators; keys are an operation and a problem."""
    return dict(
        output
        for solved in (_nms(ops), _roi_align(ops), _pyramid(ops), _boxes(ops), _anchors())
        for output in solved
    )


def _nms(ops: ModuleType) -> Iterator[tuple[str, Tensor]]:
    for name, problem in box_problems.NMS_PROBLEMS.items():
        boxes, scores, groups, threshold = problem
        if groups.any():
            kept = ops.batched_nms(boxes, scores, groups, threshold)
        else:
            kept = ops.nms(boxes, scores, threshold)
        yield f"nms/{name}", kept


def _roi_align(ops: ModuleType) -> Iterator[tuple[str, Tensor]]:
    for name, problem in box_problems.ROI_ALIGN_PROBLEMS.items():
        yield f"roi_align/{name}", _aligned(ops, problem, STRIDE)


def _pyramid(ops: ModuleType) -> Iterator[tuple[str, Tensor]]:
    boxes = box_problems.PYRAMID_BOXES
    level_of = ops.poolers.LevelMapper(2, 5)([boxes])
    yield "level_of", level_of
    pooled = boxes.new_empty(len(boxes), len(box_problems.PYRAMID[0]), 3, 3)
    for level, features in enumerate(box_problems.PYRAMID):
        members = level_of == level
        problem = RoiAlignProblem(features, boxes[members], 3)
        pooled[members] = _aligned(ops, problem, STRIDE << level)
    yield "roi_align of a pyramid", pooled


def _aligned(ops: ModuleType, problem: RoiAlignProblem, stride: int) -> Tensor:
    pooled: Tensor = ops.roi_align(
        problem.features[None],
        [problem.boxes],
        problem.output_side,
        spatial_scale=1 / stride,
        sampling_ratio=problem.sampling_ratio,
        aligned=problem.aligned,
    )
    return pooled


def _boxes(ops: ModuleType) -> Iterator[tuple[str, Tensor]]:
    for name, (boxes, others) in box_problems.IOU_PROBLEMS.items():
        yield f"area/{name}", ops.box_area(boxes)
        yield f"iou/{name}", ops.box_iou(boxes, others)
    for name, clip in box_problems.CLIP_PROBLEMS.items():
        yield f"clip/{name}", ops.clip_boxes_to_image(clip.boxes, clip.size)
    coding = import_module("torchvision.models.detection._utils")
    for name, decode in box_problems.DECODE_PROBLEMS.items():
        coder = coding.BoxCoder([1 / std for std in decode.stds], LARGEST_LOG_SCALE)
        decoded = coder.decode_single(decode.deltas.flatten(1), decode.boxes)
        yield f"decode/{name}", decoded.view(decode.deltas.shape)


def _anchors() -> Iterator[tuple[str, Tensor]]:
    anchor_utils = import_module("torchvision.models.detection.anchor_utils")
    for name, (height, width, stride) in box_problems.ANCHOR_PROBLEMS.items():
        generator = anchor_utils.AnchorGenerator(((8 * stride,),), ((0.5, 1.0, 2.0),))
        strides = [[torch.tensor(stride), torch.tensor(stride)]]
        (anchors,) = generator.grid_anchors([[height, width]], strides)
        yield f"anchors/{name}", anchors


def main() -> None:
    outputs = computed(import_module("torchvision.ops"))
    np.savez_compressed(
        STORED, allow_pickle=False, **{key: value.numpy() for key, value in outputs.items()}
    )


if __name__ == "__main__":
    main()
