"""Staged images: bounded, released, composed in order."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.inference.copies import Arrival, Mark
from model.inference.staging import StagedImage, Staging, staging_for

CPU = torch.device("cpu")


@dataclass
class Moment:
    """Records that it was waited for."""

    number: int
    waited: list[int]

    def wait(self) -> None:
        self.waited.append(self.number)


@dataclass
class Done:
    """A mark that the device passes when a test says so, or when it is waited for."""

    is_done: bool

    def query(self) -> bool:
        return self.is_done

    def synchronize(self) -> None:
        self.is_done = True


@dataclass
class FakeCopier:
    """A device in the host's memory."""

    sent: int = 0
    waited: list[int] = field(default_factory=list)
    marks: list[Done] = field(default_factory=list)
    is_full: bool = False
    is_busy: bool = False

    def send(self, image: NDArray[np.uint8]) -> tuple[Tensor, Arrival]:
        if self.is_full:
            raise torch.OutOfMemoryError("full")
        self.sent += 1
        return torch.from_numpy(image.copy()), Moment(self.sent, self.waited)

    def pin(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array.copy())

    def fetch(self, results: Sequence[Tensor]) -> list[Tensor]:
        return [result.clone() for result in results]

    def mark(self) -> Mark:
        self.marks.append(Done(not self.is_busy))
        return self.marks[-1]


def picture(seed: int, height: int = 5, width: int = 7) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(1, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("copier", [None, FakeCopier()], ids=["host", "device"])
def test_a_batch_has_zeros_beside_and_behind_its_images(copier: FakeCopier | None) -> None:
    staging = Staging(CPU, copier)
    pictures = [picture(1), picture(2, 4, 8)]
    batch, sizes = staging.batch([staging.stage(each) for each in pictures], (3, 6, 8))
    assert sizes.tolist() == [[5, 7], [4, 8], [6, 8]]
    want = np.zeros((3, 6, 8, 3), np.uint8)
    want[0, :5, :7], want[1, :4, :8] = pictures
    assert (batch.numpy() == want).all()


def test_a_batch_waits_once_for_the_last_of_its_own_images() -> None:
    copier = FakeCopier()
    staging = Staging(CPU, copier)
    staged = [staging.stage(picture(seed)) for seed in range(4)]
    staging.batch([staged[2], staged[0]], (2, 5, 7))
    assert copier.waited == [3]


def test_a_batch_is_one_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[int] = []
    copy = torch._foreach_copy_

    def noting(entries: list[Tensor], sources: list[Tensor], *, non_blocking: bool) -> None:
        assert non_blocking
        copies.append(len(entries))
        copy(entries, sources, non_blocking=non_blocking)

    monkeypatch.setattr(torch, "_foreach_copy_", noting)
    staging = Staging(CPU, FakeCopier(), max_bytes=2 * picture(0).nbytes)
    staged = [staging.stage(picture(seed)) for seed in range(3)]
    pixels, _ = staging.batch(staged, (3, 5, 7))
    assert (pixels.numpy() == np.stack([picture(seed) for seed in range(3)])).all()
    assert copies == [3]


@pytest.mark.parametrize(("count", "width"), [(2, 7), (2, 6), (1, 7), (0, 7)])
def test_a_batch_is_written_where_it_belongs_and_nothing_old_is_left(
    count: int, width: int
) -> None:
    staging = Staging(CPU, FakeCopier())
    place = torch.full((2, 5, 7, 3), 9, dtype=torch.uint8), torch.full((2, 2), 9)
    staged = [staging.stage(picture(seed, 5, width)) for seed in range(count)]
    pixels, sizes = staging.batch(staged, (2, 5, 7), place)
    assert (pixels is place[0], sizes is place[1]) == (True, True)
    want = np.zeros((2, 5, 7, 3), np.uint8)
    for seed in range(count):
        want[seed, :, :width] = picture(seed, 5, width)
    assert (pixels.numpy() == want).all()
    assert sizes.tolist() == [[5, width]] * count + [[5, 7]] * (2 - count)


def test_images_are_held_until_they_were_read() -> None:
    copier = FakeCopier(is_busy=True)
    staging = Staging(CPU, copier)
    for seed in range(2):
        staging.batch([staging.stage(picture(seed))], (1, 5, 7))
    receipt = staging.fetch([torch.ones(1)])
    gc.collect()
    assert staging.staged_bytes == 2 * picture(0).nbytes
    copier.marks[0].is_done = True
    receipt.wait()
    assert staging.staged_bytes == picture(0).nbytes
    copier.marks[1].is_done = True
    staging.batch([], (1, 5, 7))
    assert staging.staged_bytes == 0


def test_images_over_the_bound_stay_on_the_host_until_their_batch() -> None:
    copier = FakeCopier()
    staging = Staging(CPU, copier, max_bytes=2 * picture(0).nbytes)
    staged = [staging.stage(picture(seed)) for seed in range(3)]
    assert [isinstance(each.pixels, Tensor) for each in staged] == [True, True, False]
    batch, _ = staging.batch(staged, (3, 5, 7))
    assert (batch.numpy() == np.stack([picture(seed) for seed in range(3)])).all()
    assert copier.sent == 2


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
    batch, _ = staging.batch(staged, (8, 224, 224))
    assert batch.is_cuda
    (received,) = staging.receive([batch])
    assert (received.numpy() == np.stack([picture(seed, 224, 224) for seed in range(8)])).all()


def test_numbers_are_sent_as_they_are() -> None:
    numbers = np.array([[3, -1], [0, 7]])
    for staging in (Staging(CPU), Staging(CPU, FakeCopier())):
        sent = staging.send(numbers)
        assert sent.dtype == torch.int64
        assert sent.tolist() == numbers.tolist()
