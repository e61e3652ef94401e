"""A first launch of the kernels behind the recorded part."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from model.config import BACKBONES
from model.heads.detections import Detections
from model.heads.mask_rcnn import MaskRCNN
from model.heads.rpn import Candidates
from model.inference import result_kernels
from model.inference.result_kernels import launch_result_kernels
from support.filled import random_map


def test_a_segmenters_label_maps_take_every_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = pytest.importorskip("model.kernels.gpu.label_map")
    taken = []

    def label_map(logits: Tensor, network_size: tuple[int, int], size: tuple[int, int]) -> None:
        assert logits.shape == (3, 128, 8)
        taken.append(module._rows_of_program(128, network_size[0], size[0]))

    monkeypatch.setattr(result_kernels, "label_map", label_map)
    outputs = (random_map(2, 3, 128, 8), torch.ones(2, dtype=torch.bool))
    launch_result_kernels(nn.Identity(), outputs, (512, 32))
    assert taken == list(module.ROWS)


def test_of_a_detectors_batch_the_first_image_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    network = MaskRCNN(BACKBONES["nano"], 3, cascade=False).eval()
    calls = []

    def detections(
        pyramid: Sequence[Tensor], candidates: Candidates, sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        calls.append((len(pyramid), len(candidates.boxes), len(candidates.scores), sizes))
        return []

    monkeypatch.setattr(network, "detections", detections)
    with torch.inference_mode():
        pyramid, candidates = network.maps(random_map(2, 3, 64, 64, dtype=torch.float32))
        launch_result_kernels(network, (*pyramid, *candidates), (64, 64))
    assert calls == [(5, 1, 1, [(64, 64)])]


def test_a_classifier_has_no_results_to_make() -> None:
    launch_result_kernels(nn.Identity(), (random_map(2, 10), torch.ones(2)), (224, 224))
