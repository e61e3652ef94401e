"""Nothing in the static module copies data of the host to the device, or waits for the device.

Either is illegal while a CUDA graph is recorded. PyTorch's meta device shows both on any machine:
its tensors have no data to wait for, and a copy from the host is the only way to mix them with
tensors of the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.config import BACKBONES
from model.heads.classifier import ImageClassifier
from model.heads.mask_rcnn import MaskRCNN
from model.heads.upernet import UPerNet
from model.inference.passes import EmbeddingNetwork, ExplainingNetwork
from model.inference.static_module import StaticModule
from model.kernels.gpu.autotune import Autotuner
from model.lowering.folding import fold
from model.lowering.gpu import lower_for_gpu
from model.zoo import create_model

META = torch.device("meta")


def _classifier() -> ImageClassifier:
    return fold(ImageClassifier(BACKBONES["nano"], 5, overview_head=True).eval())


CONSTRUCTORS = ("tensor", "as_tensor", "asarray", "scalar_tensor")
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "classifier": lambda: create_model("demo", weights="random"),
    "embeddings": lambda: EmbeddingNetwork(_classifier()),
    "class maps": lambda: ExplainingNetwork(_classifier()),
    "UPerNet": lambda: fold(UPerNet(BACKBONES["nano"], 8, 5).eval()),
    "Mask R-CNN": lambda: fold(MaskRCNN(BACKBONES["nano"], 3, cascade=False).eval()),
    "Cascade Mask R-CNN": lambda: fold(MaskRCNN(BACKBONES["nano"], 3, cascade=True).eval()),
}
SHAPES = ((2, 96, 64), (1, 224, 224))


class CopiesFromHost(TorchDispatchMode):
    """Notes every operator that has a tensor of the CPU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [each for each in tree_leaves((args, kwargs, result)) if type(each) is Tensor]
        if any(tensor.device != META for tensor in tensors):
            self.found.append(str(func))
        return result


@pytest.fixture
def host_data(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the calls that make a tensor of host data, filled as they happen."""
    calls: list[str] = []

    def note(owner: object, name: str) -> None:
        original = getattr(owner, name)

        def noting(*arguments: object, **options: object) -> object:
            calls.append(name)
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, noting)

    for name in CONSTRUCTORS:
        note(torch, name)
    note(torch.Tensor, "new_tensor")
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_forward_pass_neither_copies_from_the_host_nor_waits(
    host_data: list[str], kind: str
) -> None:
    network = NETWORKS[kind]().to(META, torch.bfloat16)
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    lower_for_gpu(network, Autotuner())
    module = StaticModule(network, META, torch.bfloat16)
    host_data.clear()
    copies = CopiesFromHost()
    for count, height, width in SHAPES:
        pixels = torch.empty(count, height, width, 3, dtype=torch.uint8, device=META)
        sizes = torch.empty(count, 2, dtype=torch.int64, device=META)
        for _ in range(2):  # the warm-up, and what is recorded
            with torch.inference_mode(), copies:
                module(pixels, sizes)
    assert host_data == []
    assert copies.found == []


def test_maps_of_chosen_classes_are_made_without_the_host(host_data: list[str]) -> None:
    network = ExplainingNetwork(_classifier().to(META, torch.bfloat16))
    images = torch.empty(2, 3, 64, 96, dtype=torch.bfloat16, device=META)
    wanted = torch.empty(2, 3, dtype=torch.int64, device=META)
    host_data.clear()
    copies = CopiesFromHost()
    with torch.inference_mode(), copies:
        class_ids, focus, overview = network.chosen_maps(network(images), wanted)
    assert class_ids.shape == (2, 3)
    assert focus.shape == overview.shape == (2, 3, 2, 3)
    assert host_data == []
    assert copies.found == []
