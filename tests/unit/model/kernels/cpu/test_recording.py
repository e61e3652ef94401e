"""A recording computes what the pass does, and what it cannot replay is not recorded."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.kernels.cpu.contexts import pool_to_grid
from model.kernels.cpu.library import cpu_kernels_unsupported_reason
from model.kernels.cpu.ops import Statistic, channel_statistic, layer_norm, response_norm_
from model.kernels.cpu.recording import (
    PassMemory,
    PassMemoryError,
    Recording,
    UnrecordedOperatorError,
)
from support.filled import random_map

pytestmark = pytest.mark.skipif(
    cpu_kernels_unsupported_reason() is not None, reason=str(cpu_kernels_unsupported_reason())
)

CHANNELS = 20
ONES, ZEROS = torch.ones(CHANNELS), torch.zeros(CHANNELS)


def images_of(seed_shape: tuple[int, ...] = (2, CHANNELS, 9, 11)) -> tuple[Tensor, Tensor]:
    images = random_map(*seed_shape).float().to(memory_format=torch.channels_last)
    return images, (images * 3 + 1).to(memory_format=torch.channels_last)


def normalised(images: Tensor) -> Tensor:
    """Normalise every pixel by two kernels, in a layer of maps that come and go."""
    pixels = images.permute(0, 2, 3, 1).contiguous()
    for _ in range(5):
        pixels = layer_norm(pixels, ONES, ZEROS)
        response_norm_(pixels, channel_statistic(pixels, Statistic.SQUARES), ONES, ONES)
    return pixels


def test_a_replay_is_the_pass_with_other_values() -> None:
    first, second = images_of()
    recording = Recording(normalised, first, PassMemory(2**20))
    assert torch.equal(recording.output, normalised(first))
    for images in (second, first):
        assert torch.equal(recording.replay(images), normalised(images))


def test_an_output_is_kept_from_the_next_replay() -> None:
    first, second = images_of()
    recording = Recording(normalised, first, PassMemory(2**20))
    output = recording.replay(first)
    recording.replay(second)
    assert torch.equal(output, normalised(first))


def test_operators_between_kernels_are_called_again() -> None:
    def forward(images: Tensor) -> Tensor:
        pooled = pool_to_grid(normalised(images), 4)
        return F.silu(layer_norm(pooled, ONES, ZEROS)).mean(dim=(1, 2))

    first, second = images_of()
    recording = Recording(forward, first, PassMemory(2**20))
    assert torch.equal(recording.replay(second), forward(second))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_replay_runs_on_as_many_threads_as_are_set_now(threads: int) -> None:
    first, second = images_of((1, CHANNELS, 56, 56))
    recording = Recording(normalised, first, PassMemory(2**20))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(recording.replay(second), normalised(second))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "foreign",
    [torch.exp, lambda pixels: pixels * 2, lambda pixels: pixels.add_(1), torch.rand_like],
    ids=["new", "product", "in place", "random"],
)
def test_a_pass_with_another_operator_is_not_recorded(foreign: object) -> None:
    first, _ = images_of()
    with pytest.raises(UnrecordedOperatorError, match="aten"):
        Recording(lambda images: foreign(normalised(images)), first, PassMemory(2**20))  # type: ignore[operator]


def test_a_decision_by_a_value_is_not_recorded() -> None:
    first, _ = images_of()

    def forward(images: Tensor) -> Tensor:
        pixels = normalised(images)
        return pixels if pixels[0, 0, 0, 0].item() > 0 else pixels[:1]

    with pytest.raises(UnrecordedOperatorError, match="_local_scalar_dense"):
        Recording(forward, first, PassMemory(2**20))


def test_a_number_that_is_made_in_the_pass_is_not_recorded() -> None:
    first, _ = images_of()
    with pytest.raises(UnrecordedOperatorError, match="lift_fresh"):
        Recording(
            lambda images: layer_norm(normalised(images), torch.tensor([1.0] * CHANNELS), ZEROS),
            first,
            PassMemory(2**20),
        )


def test_memory_is_reused_within_a_pass_and_by_the_next() -> None:
    first, second = images_of()
    memory = PassMemory(2**20)
    recordings = [Recording(normalised, first, memory)]
    held = memory.held_bytes
    # Two maps at a time, of ten that the pass makes, and small statistics.
    assert 2 * first.nbytes <= held <= 3 * first.nbytes + 4096
    recordings.append(Recording(normalised, first[:1], memory))
    assert memory.held_bytes <= held + first[:1].nbytes  # the first one's output stays
    assert torch.equal(recordings[1].replay(second[:1]), normalised(second[:1]))
    assert torch.equal(recordings[0].replay(second), normalised(second))


def test_memory_of_a_dropped_recording_is_given_back() -> None:
    first, _ = images_of()
    memory = PassMemory(2**20)
    recording = Recording(normalised, first, memory)
    assert recording.held_bytes > first.nbytes
    assert memory.held_bytes > 0
    del recording
    memory.trim()
    assert memory.held_bytes == 0


def test_a_pass_without_enough_memory_is_not_recorded() -> None:
    first, _ = images_of()
    with pytest.raises(PassMemoryError):
        Recording(normalised, first, PassMemory(2 * first.nbytes))


def test_trimmed_pages_are_the_machines_again() -> None:
    memory = PassMemory(2**20)
    blank = torch.empty(2**18 // 4)
    tensor = memory.tensor_like(blank).fill_(1)
    del tensor
    memory.trim()
    assert memory.held_bytes == 0
    assert not memory.tensor_like(blank).any()  # new pages, which are zero
