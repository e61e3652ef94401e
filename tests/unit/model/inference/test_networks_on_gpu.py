"""On a GPU, with our kernels, the networks give what their trained form gives on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn.utils import convert_conv2d_weight_memory_format

from model.config import BACKBONES, BackboneConfig
from model.heads.classifier import ImageClassifier
from model.heads.mask_rcnn import MaskRCNN
from model.heads.upernet import UPerNet
from model.kernels.gpu.autotune import Autotuner
from model.kernels.gpu.timing import seconds_of
from model.kernels.gpu.tuning import tune
from model.lowering.folding import fold
from model.lowering.gpu import lower_for_gpu
from support.filled import filled, random_map

pytestmark = pytest.mark.gpu

OWN = BackboneConfig(  # odd heads, the smallest and the largest kernels, no layer scale
    depths=(1, 2, 1, 1),
    focus_depths=(2, 1),
    channels=(60, 120, 252, 504),
    focus_heads=(3, 7),
    kernel_sizes=(19, 5, 19, 11),
    small_kernel=3,
    mlp_ratio=2.5,
    layer_scale=(False, False, False, False),
)
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "classifier": lambda: ImageClassifier(BACKBONES["overlock_xt"], 100),
    "segmenter": lambda: UPerNet(BACKBONES["overlock_xt"], 128, 20),
    "own shape": lambda: ImageClassifier(OWN, 100),
    "pyramid": lambda: MaskRCNN(BACKBONES["overlock_xt"], 20, cascade=False),
}
# By norms. float32: TF32 is off; bfloat16: issue 4's bound.
BOUNDS = {torch.float32: 1e-4, torch.bfloat16: 2e-2}


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return torch.device("cuda")


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("size", [(224, 224), (96, 160)], ids=str)
@pytest.mark.parametrize("kind", NETWORKS)
def test_network_gives_what_it_gives_on_a_cpu(
    device: torch.device, kind: str, size: tuple[int, int], dtype: torch.dtype
) -> None:
    images = random_map(2, 3, *size, dtype=torch.float32)
    want = _output(filled(NETWORKS[kind](), torch.float32), images)
    network, images = _served(NETWORKS[kind], images, dtype, device)
    got = _output(network, images).cpu().double()
    assert ((got - want).norm() / want.double().norm()).item() < BOUNDS[dtype]


def test_measured_network_compiles_into_one_graph_and_never_again(device: torch.device) -> None:
    images = random_map(2, 3, 224, 224, dtype=torch.float32)
    network, images = _served(NETWORKS["classifier"], images, torch.bfloat16, device)
    want = _output(network, images)
    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(network, fullgraph=True, dynamic=False)
    for _ in range(3):
        got = _output(compiled, images)
    assert counters["stats"]["unique_graphs"] == 1
    # Fused operations skip roundings to bfloat16 that the eager ones make.
    assert ((got - want).norm() / want.norm()).item() < BOUNDS[torch.bfloat16]


def _served(
    build: Callable[[], nn.Module], images: Tensor, dtype: torch.dtype, device: torch.device
) -> tuple[nn.Module, Tensor]:
    """Fold, move, and measure the kernels for these images."""
    network = fold(filled(build(), torch.float32)).to(device, dtype)
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    images = images.to(device, dtype).contiguous(memory_format=torch.channels_last)
    autotuner = Autotuner()
    lower_for_gpu(network, autotuner)
    run = partial(_output, network, images)
    assert tune(run, autotuner, len(images), lambda run: seconds_of([run], device, repeats=3))
    return network, images


@torch.inference_mode()
def _output(network: Callable[..., object], images: Tensor) -> Tensor:
    """Return the logits; of a detector, the pyramid's finest level."""
    if isinstance(network, MaskRCNN):
        return cast("Tensor", network.neck(network.backbone.dense_features(images))[0])
    return cast("Tensor", network(images))
