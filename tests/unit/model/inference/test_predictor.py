"""Batches of pixels: padding, neighbours and damage do not change an image's result."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.backbone.overlock import Stem
from model.config import IMAGE_MEAN, IMAGE_STD
from model.heads.detections import Detections
from model.heads.rpn import Candidates
from model.inference.batch_limits import fitting_batch_sizes
from model.inference.execution import Execution, Gpu
from model.inference.predictor import Predictor
from model.inference.recordings import Recordings
from model.inference.staging import Staging
from model.lowering.folding import fold
from model.zoo import create_model
from support.delayed_device import DelayedCopier, DelayedDevice, DelayedRecorder
from support.filled import filled

CPU = torch.device("cpu")


def pictures(count: int, height: int, width: int) -> list[NDArray[np.uint8]]:
    generator = np.random.default_rng(3)
    return [generator.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


def predictor(network: nn.Module) -> Predictor:
    return Predictor(network.eval(), CPU, torch.float32)


class Recording(nn.Module):
    """Records its arguments and returns what a test sets."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer
        self.arguments: tuple[object, ...] = ()

    def forward(self, *arguments: object) -> object:
        self.arguments = arguments
        return self.answer


class RecordingDetector(nn.Module):
    """Records the arguments of its two parts and detects nothing."""

    def maps(self, images: Tensor) -> tuple[list[Tensor], Candidates]:
        self.images = images
        count = len(images)
        return [images], Candidates(torch.zeros(count, 1), torch.zeros(count, 1, 4), torch.zeros(1))

    def detections(self, *arguments: object) -> list[Detections]:
        self.arguments = arguments
        return [Detections(*(torch.zeros(0, 4),) * 4)] * 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo", "overlock_xt"])
def test_logits_do_not_depend_on_the_batch(name: str) -> None:
    network = predictor(create_model(name, weights="random"))
    images = pictures(8, 224, 224)
    full = np.stack([row for row in network.classify(images, (8, 224, 224)) if row is not None])
    padded = network.classify(images[:3], (4, 224, 224))
    largest = np.abs(full).max()
    assert len(padded) == 3
    for index in range(3):
        (alone,) = network.classify(images[index : index + 1], (1, 224, 224))
        assert alone is not None
        assert padded[index] is not None
        assert np.abs(full[index] - alone).max() <= 1e-5 * largest
        assert np.abs(full[index] - padded[index]).max() <= 1e-5 * largest


def test_bfloat16_on_a_cpu_is_refused_without_our_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "model.inference.execution.lowering_unsupported_reason", lambda _: "there is no compiler"
    )
    network = create_model("demo", weights="random")
    assert predictor(network).kernels == "PyTorch's alone, since there is no compiler"
    with pytest.raises(ValueError, match="bfloat16 on a CPU needs our kernels, but there is no"):
        Predictor(network, CPU, torch.bfloat16)
    with pytest.raises(ValueError, match="the compiler cannot look into the native ones"):
        Predictor(network, CPU, torch.bfloat16, compiler="inductor")


class StemAlone(nn.Module):
    """Classifies by the stem's mean outputs: one of the blocks that are compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = fold(filled(nn.Sequential(Stem(16)), torch.float32))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.stem(images)
        return features.mean(dim=(2, 3))


@pytest.mark.slow
def test_listed_shapes_run_compiled_and_eagerly_once_the_compiler_is_disabled() -> None:
    eager = predictor(StemAlone())
    compiled = Predictor(StemAlone(), CPU, torch.float32, compiler="eager")
    assert fitting_batch_sizes(compiled, (1, 2), [(64, 96)]) == (1, 2)
    for _ in range(2):
        for count in (1, 2):
            images = pictures(count, 64, 96)
            got = compiled.classify(images, (2, 64, 96))
            for mine, theirs in zip(got, eager.classify(images, (2, 64, 96)), strict=True):
                assert mine == pytest.approx(theirs, abs=1e-4)
        compiled.do_not_compile("a test")


def test_label_maps_do_not_depend_on_the_batch() -> None:
    network = predictor(create_model("demo", task="segment", weights="random"))
    images = pictures(3, 64, 96)
    sizes = [(70, 101), (64, 96), (13, 17)]
    together = network.segment(images, (4, 64, 96), sizes)
    for image, size, label_map in zip(images, sizes, together, strict=True):
        (alone,) = network.segment([image], (1, 64, 96), [size])
        assert alone is not None
        assert label_map is not None
        assert label_map.shape == size
        # A pixel on the line between two classes may fall either way.
        assert (alone == label_map).mean() > 0.999


def test_pixels_are_normalised_and_their_padding_is_zero() -> None:
    network = RecordingDetector()
    images = pictures(2, 20, 30)
    predictor(network).detect(images, (3, 32, 64), [(40, 60), (40, 60)])
    _, _, sizes, original_sizes = network.arguments
    batch = network.images
    assert batch.shape == (2, 3, 32, 64)  # a detector gets no padding entries
    want = (images[1] / 255 - np.array(IMAGE_MEAN)) / np.array(IMAGE_STD)
    got = batch[1, :, :20, :30].permute(1, 2, 0)
    torch.testing.assert_close(got, torch.from_numpy(want).float(), rtol=0, atol=1e-6)
    assert not batch[:, :, 20:].any()
    assert not batch[:, :, :, 30:].any()
    assert sizes == [(20, 30), (20, 30)]
    assert original_sizes == [(40, 60), (40, 60)]


def test_a_detectors_batch_is_padded_to_a_recorded_one_and_has_no_other_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = RecordingDetector()
    padding = predictor(network)
    monkeypatch.setattr(padding.execution, "padded_size", lambda shape: {3: 4}[shape[0]])
    padding.detect(pictures(3, 32, 64), (3, 32, 64), [(32, 64)] * 3)
    assert network.images.shape == (4, 3, 32, 64)
    pyramid, candidates, sizes, _ = cast(
        "tuple[list[Tensor], Candidates, list[object], object]", network.arguments
    )
    lengths = {len(pyramid[0]), len(candidates.boxes), len(candidates.scores), len(sizes)}
    assert lengths == {3}


@pytest.mark.parametrize("damage", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_told_apart_from_their_neighbours(damage: float) -> None:
    logits = torch.tensor([[0.0, 1.0], [damage, 1.0], [2.0, 1.0]])
    found = predictor(Recording(logits)).classify(pictures(3, 32, 32), (3, 32, 32))
    assert [row is None for row in found] == [False, True, False]


def test_a_label_map_is_not_made_of_logits_that_are_not_finite() -> None:
    logits = torch.zeros(2, 3, 8, 8)
    logits[1, 2, 5, 5] = float("nan")
    found = predictor(Recording(logits)).segment(
        pictures(2, 32, 32), (2, 32, 32), [(32, 32), (32, 32)]
    )
    assert [label_map is None for label_map in found] == [False, True]


def test_only_convolutions_are_laid_out_for_channels_last() -> None:
    network = Predictor(
        create_model("demo", weights="demo"), CPU, torch.float32, compiler="eager"
    ).network
    mixing = network.get_submodule("backbone.focus3.0.block.context_mixing")
    # Bias windows have four dimensions too; the kernels need them contiguous.
    assert mixing.get_buffer("large_bias").is_contiguous()
    weight = network.get_parameter("backbone.downsample2.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()


class Averaging(nn.Module):
    """Classifies by an image's mean colour."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


@pytest.mark.parametrize(
    "batches",
    [[(4, 4), (4, 4), (4, 4)], [(4, 4), (1, 4), (3, 4)], [(2, 2), (3, 4), (1, 2)]],
    ids=str,
)
def test_recorded_batches_that_are_launched_ahead_do_not_disturb_each_others_results(
    batches: list[tuple[int, int]],
) -> None:
    device = DelayedDevice()
    late = Predictor(Averaging(), CPU, torch.float32, Staging(CPU, DelayedCopier(device)))
    gpu = Gpu(Recordings(DelayedRecorder(device), 100), None, lambda _: 1.0)
    late.execution = late._forward = Execution(late.static_module, gpu, None)
    for places in (4, 2):
        late.prepare((places, 24, 32))
    images = pictures(sum(count for count, _ in batches), 24, 32)
    with device:
        waits = []
        for count, places in batches:
            batch, images = images[:count], [*images[count:], *images[:count]]
            waits.append((late.launch(batch, (places, 24, 32)), batch, places))
    assert device.done == 0
    assert late.staging.staged_bytes == len(images) * 24 * 32 * 3
    for wait, batch, places in waits:
        wanted = predictor(Averaging()).classify(batch, (places, 24, 32))
        for got, want in zip(wait(), wanted, strict=True):
            assert got == pytest.approx(want, abs=1e-5)
    assert not device.work
    assert late.staging.staged_bytes == 0


def test_a_batchs_label_maps_and_detections_are_received_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = predictor(Recording(torch.zeros(3, 5, 8, 8)))
    received: list[int] = []
    receive = network.staging.receive

    def noting(results: Sequence[Tensor]) -> list[Tensor]:
        received.append(len(results))
        return receive(results)

    monkeypatch.setattr(network.staging, "receive", noting)
    network.segment(pictures(3, 32, 32), (3, 32, 32), [(32, 32)] * 3)
    assert received == [1, 3]  # which are finite, and the label maps
    detecting = predictor(RecordingDetector())
    monkeypatch.setattr(detecting.staging, "receive", noting)
    detecting.detect(pictures(2, 32, 64), (2, 32, 64), [(32, 64)] * 2)
    assert received == [1, 3, 8]


def test_kernels_of_results_are_launched_once_for_each_input_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launched: list[tuple[int, int]] = []
    monkeypatch.setattr(
        "model.inference.predictor.launch_result_kernels",
        lambda network, outputs, size: launched.append(size),
    )
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    on_gpu = predictor(Averaging())
    on_gpu.device = torch.device("cuda")
    for size in ((32, 64), (64, 32)):
        for count in (4, 2, 1):
            on_gpu.prepare((count, *size))
    assert launched == [(32, 64), (64, 32)]
