"""Names go from the authors' to ours and back, and with them every number."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from model.checkpoints.official_names import naming_of, official_naming_of, official_state
from model.config import BACKBONES, SEGMENTERS
from model.heads.classifier import ImageClassifier
from model.heads.mask_rcnn import MaskRCNN
from model.heads.upernet import UPerNet
from model.lowering.folding import fold
from model.zoo import create_model
from support.checkpoints import official_shapes
from support.filled import filled

FILES = (
    "overlock_xt",
    "overlock_xt_reparam",
    "upernet_overlock_xt",
    "mask_rcnn_overlock_xt",
    "cascade_mask_rcnn_overlock_xt",
)
NANO = BACKBONES["nano"]


@pytest.mark.parametrize("file", FILES)
def test_every_name_of_a_file_comes_back(file: str) -> None:
    names = [name for name in official_shapes(file) if not name.startswith("auxiliary_head.")]
    our_name = naming_of(names)
    ours = [our_name(name) for name in names]
    assert None not in ours
    kept = [name for name in ours if name is not None]
    assert [*map(official_naming_of(kept), kept)] == names


@pytest.mark.slow
@pytest.mark.parametrize("merged", [False, True])
def test_a_classifier_comes_back_to_the_bit(tmp_path: Path, merged: bool) -> None:
    network = ImageClassifier(NANO, 7, merged=merged, overview_head=True)
    state = official_state(counted(network))
    assert "aux_head.2.weight" in state
    again = saved_and_loaded(state, tmp_path, "demo")
    assert_close(official_state(again), state, rtol=0, atol=0)
    assert_close(dict(again.state_dict()), dict(network.state_dict()), rtol=0, atol=0)


def test_a_segmenter_comes_back_to_the_bit(tmp_path: Path) -> None:
    network = UPerNet(NANO, SEGMENTERS["demo"].head_channels, 4)
    state = official_state(counted(network))
    assert "decode_head.conv_seg.weight" in state
    again = saved_and_loaded(state, tmp_path, "demo", task="segment")
    assert_close(official_state(again), state, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("cascade", [False, True])
def test_a_detector_comes_back_to_the_bit(tmp_path: Path, cascade: bool) -> None:
    network = MaskRCNN(BACKBONES["overlock_xt"], 2, cascade=cascade)
    state = official_state(counted(network))
    assert ("roi_head.bbox_head.2.fc_cls.weight" in state) is cascade
    name = f"{'cascade_' if cascade else ''}mask_rcnn_overlock_xt"
    again = saved_and_loaded(state, tmp_path, name)
    assert_close(official_state(again), state, rtol=0, atol=0)


def test_a_folded_network_has_no_official_state() -> None:
    network = fold(filled(ImageClassifier(NANO, 3), torch.float32))
    with pytest.raises(ValueError, match=r"folded network has no norms left.*fused=False"):
        official_state(network)


def counted(network: nn.Module) -> nn.Module:
    """Fill a network, and give every norm a count of its own."""
    filled(network, torch.float32)
    norms = (part for part in network.modules() if isinstance(part, nn.BatchNorm2d))
    for number, norm in enumerate(norms, start=1):
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.fill_(number)
    return network


def saved_and_loaded(
    state: dict[str, Tensor], folder: Path, name: str, task: str | None = None
) -> nn.Module:
    path = folder / "weights.pth"
    torch.save(state, path)
    return create_model(name, task=task, weights=path, fused=False)
