"""A first launch of the GPU kernels that make results of what the recorded part returns."""

from __future__ import annotations

from torch import nn

from model.heads.label_map import label_map
from model.heads.mask_rcnn import MaskRCNN
from model.inference.static_module import Tensors, as_maps

SHRINKING = (1, 2, 6, 16)
"""Images so many times smaller than the network's input take different label map kernels."""


def launch_result_kernels(network: nn.Module, outputs: Tensors, size: tuple[int, int]) -> None:
    """Make the results of a batch's first image, so that no request waits for a compilation.

    Results are made image by image, so the kernels are the same in every batch of an input size.

    Args:
        network: a classifier has no such kernels.
        outputs: as ``StaticModule.forward`` returns them.
        size: of the network's input, height and width.
    """
    if isinstance(network, MaskRCNN):
        network.detections(*as_maps(outputs, 1), [size])
    elif outputs[0].ndim == 4:  # a segmenter's logits, (B, classes, h, w)
        for times in SHRINKING:
            label_map(outputs[0][0], size, (max(1, size[0] // times), 1))
