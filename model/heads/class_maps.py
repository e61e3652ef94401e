"""Class maps: the logits of a linear layer at every position, whose means are the logits.

Exact, not a heuristic: a mean and the linear layer behind it may change places.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn


class ClassMaps(NamedTuple):
    """Logits by class and position, float32 or wider, at stride 32 of the input.

    Attributes:
        focus: of the focus net's last map, (B, classes, h, w), or (B, k, h, w) of k chosen
            classes; the mean of a map is the network's logit.
        overview: of the overview net's map, the same shape; the mean is the overview head's logit.
            None without that head.
    """

    focus: Tensor
    overview: Tensor | None


def position_logits(features: Tensor, classify: nn.Module, class_ids: Tensor | None) -> Tensor:
    """Apply a classifier's last layer at every position, for chosen classes alone.

    Args:
        features: what the layer sees the mean of, (B, D, h, w).
        classify: the layer in any of its forms, with a weight of (classes, D) or
            (classes, D, 1, 1), and a bias.
        class_ids: below the number of classes, (B, k) int64; None for all classes.

    Returns:
        (B, k, h, w) in float32, or float64 of such features: rounded to bfloat16 at every position
        a map's mean would stray from the logit.
    """
    weight, bias = cast("Tensor", classify.weight).flatten(1), cast("Tensor", classify.bias)
    if class_ids is not None:
        weight, bias = weight[class_ids], bias[class_ids]  # (B, k, D), (B, k)
    dtype = torch.promote_types(features.dtype, torch.float32)
    positions = features.flatten(2).to(dtype)  # (B, D, h, w) -> (B, D, h*w)
    logits = weight.to(dtype) @ positions + bias.to(dtype).unsqueeze(-1)
    return cast("Tensor", logits.unflatten(2, features.shape[2:]))


def check_class_ids(class_ids: Tensor, images: int, num_classes: int) -> None:
    """Check ids before they index a weight; on a GPU this waits for the device.

    Raises:
        ValueError: unless they are one row of ids for each image, from 0 to ``num_classes`` - 1.
    """
    if class_ids.ndim != 2 or len(class_ids) != images or class_ids.dtype != torch.int64:
        raise ValueError(
            f"class_ids is {class_ids.dtype} of shape {tuple(class_ids.shape)}, not int64 of "
            f"({images}, k): a row for each image."
        )
    if class_ids.numel() and not 0 <= int(class_ids.min()) <= int(class_ids.max()) < num_classes:
        raise ValueError(
            f"class_ids has ids from {int(class_ids.min())} to {int(class_ids.max())}; the "
            f"network's classes are 0 to {num_classes - 1}."
        )
