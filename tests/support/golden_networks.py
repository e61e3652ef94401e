"""The reference's checkpoints and images, for the classifiers' golden tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.heads.classifier import ImageClassifier
from support.checkpoints import official_state
from support.fill import image, model_input

NetworkOf = Callable[[str, str], ImageClassifier]

FORMS = ("trained", "merged", "folded", "channels_last", "native")

TOLERANCE = 1e-4  # of the largest value: float32, summed in another order than the authors'


@contextmanager
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory, key_table: str) -> Iterator[Path]:
    """Write an official checkpoint, and delete it: pytest would keep gigabytes."""
    path = tmp_path_factory.mktemp("checkpoints") / f"{key_table}.pth"
    torch.save(official_state(key_table), path)
    yield path
    path.unlink()


def images_of(name: str, size: str) -> Tensor:
    """Two of the reference's images, (2, 3, H, W)."""
    height, width = map(int, size.split("x"))
    return torch.from_numpy(model_input([image(f"{name}-{i}", height, width) for i in (0, 1)]))


def assert_relative(got: Tensor, want: Tensor, tolerance: float) -> None:
    """Compare, relative to the largest magnitude."""
    torch.testing.assert_close(got, want, rtol=0, atol=tolerance * want.abs().max().item())
