"""The host's waits for a GPU while it detects, counted on a CPU with the kernels stubbed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from model.config import BACKBONES
from model.heads import mask_rcnn
from model.heads import nms as nms_module
from model.heads import roi_sampler as roi_sampler_module
from model.heads.mask_rcnn import MaskRCNN
from support.filled import filled, random_map

WAITS = {
    "aten::_local_scalar_dense",
    "aten::_unique2",
    "aten::equal",
    "aten::is_nonzero",
    "aten::item",
    "aten::nonzero",
    "aten::nonzero_numpy",
    "aten::unique_dim",
}
"""Operators that return to the host something that the device computes: a value or a length."""


class WaitCounter(TorchDispatchMode):
    """Counts the operators that wait for the device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func._schema.name
        indices = args[1] if name.startswith("aten::index") and name != "aten::index_select" else ()
        by_mask = isinstance(indices, (list, tuple)) and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in indices
        )
        if name in WAITS or by_mask:
            self.waits[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def narrow_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_rcnn, "PYRAMID_CHANNELS", 8)
    monkeypatch.setattr(mask_rcnn, "BOX_HEAD_CHANNELS", 16)


@pytest.fixture
def copies_from_host(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what makes a tensor of host data from now on: on a GPU it waits, too."""
    calls: list[str] = []

    def recording(make: Any, name: str) -> Any:
        def made(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            return make(*arguments, **options)

        return made

    monkeypatch.setattr(torch, "tensor", recording(torch.tensor, "tensor"))
    monkeypatch.setattr(
        torch.Tensor, "new_tensor", recording(torch.Tensor.new_tensor, "new_tensor")
    )
    return calls


@pytest.mark.parametrize("cascade", [False, True], ids=["mask-rcnn", "cascade"])
def test_a_detection_waits_only_for_the_lengths_of_its_results(
    monkeypatch: pytest.MonkeyPatch, copies_from_host: list[str], cascade: bool
) -> None:
    network = filled(MaskRCNN(BACKBONES["nano"], 3, cascade=cascade), torch.float32)
    images = random_map(1, 3, 64, 96, dtype=torch.float32)
    copies_from_host.clear()
    with torch.inference_mode():
        maps = network.maps(images)
        assert copies_from_host == []
        _take_stubbed_kernels(monkeypatch)
        with WaitCounter() as counter:
            (found,) = network.detections(*maps, [(64, 96)], [(128, 192)])
    assert len(found.boxes) > 0
    assert copies_from_host == []
    # Proposals, the boxes of all classes above the threshold, detections.
    assert counter.waits == {"aten::index": 2, "aten::nonzero_numpy": 1}


def test_maps_wait_for_nothing() -> None:
    network = filled(MaskRCNN(BACKBONES["nano"], 3, cascade=False), torch.float32)
    with torch.inference_mode(), WaitCounter() as counter:
        network.maps(random_map(1, 3, 64, 96, dtype=torch.float32))
    assert counter.waits == {}


def _take_stubbed_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def roi_align(levels: Sequence[Tensor], boxes: Tensor, side: int, *sizes: int) -> Tensor:
        return boxes.new_full((len(boxes), len(levels[0]), side, side), 0.1)

    def nms(boxes: Tensor, areas: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
        return boxes.new_ones(len(boxes), dtype=torch.bool)

    for module in (nms_module, roi_sampler_module):
        monkeypatch.setattr(module, "triton_unsupported_reason", lambda *tensors: None)
    monkeypatch.setattr(nms_module, "nms_triton", nms, raising=False)
    monkeypatch.setattr(roi_sampler_module, "roi_align_triton", roi_align, raising=False)
