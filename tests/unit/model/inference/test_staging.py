"""Staged images: bounded, released, composed in order."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.inference.staging import Arrival, StagedImage, Staging, staging_for

CPU = torch.device("cpu")


@dataclass
class Moment:
    """Records that it was waited for."""

    name: int
    waited: list[int]

    def wait(self) -> None:
        self.waited.append(self.name)


@dataclass
class FakeCopier:
    """A device in the host's memory."""

    sent: int = 0
    waited: list[int] = field(default_factory=list)
    is_full: bool = False

    def send(self, image: NDArray[np.uint8]) -> tuple[Tensor, Arrival]:
        if self.is_full:
            raise torch.OutOfMemoryError("full")
        self.sent += 1
        return torch.from_numpy(image.copy()), Moment(self.sent, self.waited)

    def receive(self, results: Sequence[Tensor]) -> list[Tensor]:
        return [result.clone() for result in results]


def picture(seed: int, height: int = 5, width: int = 7) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(1, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("copier", [None, FakeCopier()], ids=["host", "device"])
def test_a_batch_has_zeros_beside_and_behind_its_images(copier: FakeCopier | None) -> None:
    staging = Staging(CPU, copier)
    pictures = [picture(1), picture(2, 4, 8)]
    batch = staging.batch([staging.stage(each) for each in pictures], (3, 6, 8))
    want = np.zeros((3, 6, 8, 3), np.uint8)
    want[0, :5, :7], want[1, :4, :8] = pictures
    assert (batch.numpy() == want).all()


def test_a_batch_waits_for_its_own_images_alone() -> None:
    copier = FakeCopier()
    staging = Staging(CPU, copier)
    staged = [staging.stage(picture(seed)) for seed in range(3)]
    staging.batch([staged[2], staged[0]], (2, 5, 7))
    assert copier.waited == [3, 1]


def test_images_over_the_bound_stay_on_the_host_until_their_batch() -> None:
    copier = FakeCopier()
    staging = Staging(CPU, copier, max_bytes=2 * picture(0).nbytes)
    staged = [staging.stage(picture(seed)) for seed in range(3)]
    assert [isinstance(each.pixels, Tensor) for each in staged] == [True, True, False]
    batch = staging.batch(staged, (3, 5, 7))
    assert (batch.numpy() == np.stack([picture(seed) for seed in range(3)])).all()
    assert copier.sent == 3


def test_a_dropped_image_releases_its_memory() -> None:
    staging = Staging(CPU, FakeCopier(), max_bytes=picture(0).nbytes)
    staged: StagedImage | None = staging.stage(picture(0))
    assert staging.staged_bytes == picture(0).nbytes
    staged = None
    gc.collect()
    assert staged is None
    assert staging.staged_bytes == 0


def test_a_full_device_leaves_the_image_on_the_host() -> None:
    staging = Staging(CPU, FakeCopier(is_full=True))
    staged = staging.stage(picture(0))
    assert isinstance(staged.pixels, np.ndarray)
    assert staging.staged_bytes == 0


def test_a_cpu_copies_nothing() -> None:
    staging = staging_for(CPU)
    image, result = picture(0), torch.ones(2)
    assert staging.stage(image).pixels is image
    assert staging.receive([result])[0] is result


@pytest.mark.gpu
def test_a_gpus_copies_arrive() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    staging = staging_for(torch.device("cuda"))
    staged = [staging.stage(picture(seed, 224, 224)) for seed in range(8)]
    batch = staging.batch(staged, (8, 224, 224))
    assert batch.is_cuda
    (received,) = staging.receive([batch])
    assert (received.numpy() == np.stack([picture(seed, 224, 224) for seed in range(8)])).all()
