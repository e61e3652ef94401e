"""A recorded network gives what the network gives, to the bit, however it is called."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from model.config import CLASSIFIERS, BackboneConfig
from model.heads.classifier import ImageClassifier
from model.inference import recorded_network
from model.inference.predictor import Predictor
from model.inference.recorded_network import RecordedNetwork, recorded
from model.kernels.cpu.dense_conv import is_native
from model.lowering.cpu import lower_for_cpu, lowering_unsupported_reason
from model.lowering.folding import fold
from support.documents import ROOT
from support.filled import filled, random_map

DTYPES = [torch.float32, torch.bfloat16]
CONFIG = CLASSIFIERS["demo"].backbone
UNEVEN = BackboneConfig(  # widths that no vector divides
    depths=(1, 1, 2, 1), focus_depths=(2, 2), channels=(20, 36, 56, 88), focus_heads=(2, 2)
)


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def classifier(config: BackboneConfig, dtype: torch.dtype) -> ImageClassifier:
    if lowering_unsupported_reason(dtype) is not None or not is_native(dtype):
        pytest.skip(f"Dense convolutions of {dtype} are not our own kernel here")
    return lower_for_cpu(fold(filled(ImageClassifier(config, 5), torch.float32)), dtype)


def images_of(batch: int, height: int, width: int, dtype: torch.dtype, scale: float = 1) -> Tensor:
    images = random_map(batch, 3, height, width) * scale
    return images.to(dtype).to(memory_format=torch.channels_last)


def recorded_classifier(
    config: BackboneConfig = CONFIG, dtype: torch.dtype = torch.float32
) -> RecordedNetwork:
    network = recorded(classifier(config, dtype))
    assert isinstance(network, RecordedNetwork)
    return network


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("config", [CONFIG, UNEVEN], ids=["demo", "uneven"])
@pytest.mark.parametrize("size", [(64, 64), (33, 209), (224, 224)], ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_replays_are_the_networks_passes(
    batch: int, size: tuple[int, int], config: BackboneConfig, dtype: torch.dtype
) -> None:
    network = recorded_classifier(config, dtype)
    for scale in (1, 2, 3):
        images = images_of(batch, *size, dtype, scale)
        assert torch.equal(network(images), network.network(images))
    assert network.recorded_shapes == (images.shape,)


def test_images_may_come_in_any_memory_format() -> None:
    network = recorded_classifier()
    images = images_of(2, 64, 96, torch.float32)
    want = network(images)
    assert torch.equal(network(images.contiguous()), want)


def test_replays_do_not_need_inference_mode() -> None:
    network = recorded_classifier()
    images = images_of(1, 64, 64, torch.float32)
    want = network(images)
    with torch.inference_mode(mode=False), torch.no_grad():
        assert torch.equal(network(images.clone()), want)


def test_shapes_share_their_memory() -> None:
    batches = [images_of(count, 224, 224, torch.float32) for count in (3, 2, 1)]
    network = recorded_classifier()
    alone = 0
    for images in batches:
        other = recorded_classifier()
        other(images)
        network(images)
        alone += other.held_bytes
    assert network.held_bytes < 0.75 * alone  # inputs are not shared
    for images in batches:
        assert torch.equal(network(images), network.network(images))


def test_recording_imports_no_compiler() -> None:
    if lowering_unsupported_reason(torch.float32) is not None or not is_native(torch.float32):
        pytest.skip("Dense convolutions are not our own kernel here")
    program = """
import sys, torch
from model.inference.recorded_network import recorded
from model.lowering.cpu import lower_for_cpu
from model.zoo import create_model
network = recorded(lower_for_cpu(create_model("demo", weights="random").eval(), torch.float32))
with torch.inference_mode():
    network(torch.zeros(1, 3, 64, 64))
assert network.recorded_shapes
print({"torch._dynamo", "torch._inductor", "sympy"} & {*sys.modules})
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert ran.stdout == "set()\n", ran.stderr


def test_threads_may_call_at_once() -> None:
    network = recorded_classifier()
    batches = [images_of(1, 64, 64, torch.float32, scale) for scale in range(1, 9)]
    want = [network.network(images) for images in batches]

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return torch.stack([network(images) for _ in range(5)])

    # A number of threads is a caller's own, and sums depend on it.
    with ThreadPoolExecutor(4, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for got, logits in zip(pool.map(run, batches), want, strict=True):
            assert torch.equal(got, logits.expand_as(got))


def test_a_network_with_another_operator_runs_itself(caplog: pytest.LogCaptureFixture) -> None:
    network = classifier(CONFIG, torch.float32)
    network.head.add_module("pool", nn.Sequential(network.head.pool, nn.Softplus()))
    replayed = recorded(network)
    assert isinstance(replayed, RecordedNetwork)
    for scale in (1, 2):
        images = images_of(1, 64, 64, torch.float32, scale)
        assert torch.equal(replayed(images), network(images))
    assert replayed.recorded_shapes == ()
    assert "aten.softplus" in caplog.text


def test_hooks_are_called_in_every_pass() -> None:
    network = recorded_classifier()
    images = images_of(1, 64, 64, torch.float32)
    network(images)
    seen: list[torch.Size] = []
    network.network.backbone.stem.register_forward_hook(
        lambda _part, _inputs, output: seen.append(output.shape)
    )
    network(images)
    network(images)
    assert len(seen) == 2


@pytest.mark.parametrize("share", [0.5, 0.999], ids=["of the pass", "of the recording"])
def test_memory_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, share: float
) -> None:
    caplog.set_level(logging.INFO)
    small, large, larger = (images_of(1, side, 64, torch.float32) for side in (64, 256, 512))
    unbounded = recorded_classifier()
    unbounded(large)
    monkeypatch.setattr(recorded_network, "MAX_BYTES", int(share * unbounded.held_bytes))
    network = recorded_classifier()
    for images in (small, large, larger, small):
        for _ in range(2):
            assert torch.equal(network(images), network.network(images))
    assert network.recorded_shapes == (small.shape,)
    assert network.held_bytes <= recorded_network.MAX_BYTES
    assert "Batches of 16384 and more pixels are not recorded." in caplog.text


def test_large_batches_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_network, "MAX_PIXELS", 2 * 64 * 64)
    network = recorded_classifier()
    for count in (2, 3):
        network(images_of(count, 64, 64, torch.float32))
    assert [shape[0] for shape in network.recorded_shapes] == [2]


def test_a_predictor_replays_a_classifiers_passes() -> None:
    network = classifier(CONFIG, torch.float32)
    predictor = Predictor(network, torch.device("cpu"), torch.float32)
    replayed = predictor.static_module.network
    assert isinstance(replayed, RecordedNetwork)
    predictor.dry_run((2, 64, 64))
    assert [*replayed.recorded_shapes] == [torch.Size((2, 3, 64, 64))]
    assert predictor.network is network


def test_only_lowered_classifiers_are_recorded() -> None:
    folded = fold(filled(ImageClassifier(CONFIG, 5), torch.float32))
    assert recorded(folded) is folded
    backbone = classifier(CONFIG, torch.float32).backbone
    assert recorded(backbone) is backbone
