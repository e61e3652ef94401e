"""Batches of drawn scenes, with separate seeds for training and evaluation.

A scene with a seed below ``HELD_OUT_SEEDS_END`` is never trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.scenes.scenes import draw_scene

HELD_OUT_SEEDS_END = 1_000_000
"""Seeds below this are held out: evaluation and tests draw from them."""

_SEEDS_PER_RUN = 100_000_000
_HELD_OUT_BATCH_SIZE = 50


@dataclass(frozen=True)
class SceneBatch:
    """Scenes of one size.

    Attributes:
        images: RGB, uint8 (B, H, W, 3).
        labels: class ids, int64 (B,).
        label_maps: uint8 (B, H, W), see ``Scene``.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    label_maps: NDArray[np.uint8]


def draw_batch(first_seed: int, count: int, side_pixels: int) -> SceneBatch:
    """Draw square scenes of consecutive seeds.

    Args:
        first_seed: seed of the first scene.
        count: number of scenes.
        side_pixels: height and width.

    Returns:
        The batch, in the order of the seeds.
    """
    scenes = [
        draw_scene(seed, side_pixels, side_pixels) for seed in range(first_seed, first_seed + count)
    ]
    return SceneBatch(
        images=np.stack([scene.image for scene in scenes]),
        labels=np.array([scene.label for scene in scenes], dtype=np.int64),
        label_maps=np.stack([scene.label_map for scene in scenes]),
    )


def training_seed(run_seed: int, scene_index: int) -> int:
    """Return the seed of a scene of a training run.

    Args:
        run_seed: the run's own, 0 or more; other runs see other scenes.
        scene_index: number of scenes before it in the run.
    """
    return HELD_OUT_SEEDS_END + run_seed * _SEEDS_PER_RUN + scene_index


def held_out_batches(scenes: int, side_pixels: int) -> Iterator[SceneBatch]:
    """Draw the first held-out scenes, from seed 0, with a progress bar."""
    for first_seed in tqdm(range(0, scenes, _HELD_OUT_BATCH_SIZE), desc="evaluating"):
        count = min(_HELD_OUT_BATCH_SIZE, scenes - first_seed)
        yield draw_batch(first_seed, count, side_pixels)
