"""The whole backbone, as the small ``nano`` variant, at sizes people send."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.testing import assert_close

from model.backbone.blocks import DynamicBlock
from model.backbone.layers import DropPath
from model.backbone.overlock import OverLoCK
from model.config import BACKBONES
from model.lowering.folding import fold
from support.filled import filled, random_map

NANO = BACKBONES["nano"]
EXACT = 1e-9  # float64, some sixty layers
SIZES = [(32, 32), (33, 47), (64, 200), (160, 97), (256, 416)]


@pytest.fixture(scope="module")
def trained() -> OverLoCK:
    return filled(OverLoCK(NANO))


@pytest.fixture(scope="module")
def folded(trained: OverLoCK) -> OverLoCK:
    return fold(copy.deepcopy(trained))


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_folded_backbone_is_the_same_function(
    trained: OverLoCK, folded: OverLoCK, height: int, width: int
) -> None:
    images = random_map(1, 3, height, width)
    assert_close(folded(images), trained(images), rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 47), (65, 96)])
def test_last_map_is_a_32nd_of_the_input_rounded_up(
    folded: OverLoCK, height: int, width: int
) -> None:
    result = folded(random_map(2, 3, height, width))
    assert result.shape == (2, folded.out_channels, -(-height // 32), -(-width // 32))


@pytest.mark.parametrize(("height", "width"), [(31, 64), (64, 31), (1, 1)])
def test_too_small_an_input_is_refused(folded: OverLoCK, height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"A {height}x{width} input is too small"):
        folded(random_map(1, 3, height, width))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "height", "width"), [("trained", 64, 96), ("folded", 64, 96), ("folded", 224, 96)]
)
def test_batch_gives_what_its_images_give_alone(
    request: pytest.FixtureRequest, form: str, height: int, width: int
) -> None:
    network = request.getfixturevalue(form)
    images = random_map(3, 3, height, width)
    alone = torch.cat([network(image[None]) for image in images])
    assert_close(network(images), alone, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("form", ["trained", "folded"])
def test_image_of_one_colour_stays_finite(request: pytest.FixtureRequest, form: str) -> None:
    network = request.getfixturevalue(form)
    assert network(torch.full((1, 3, 64, 64), 0.5, dtype=torch.float64)).isfinite().all()


def test_grey_image_folds_as_exactly(trained: OverLoCK, folded: OverLoCK) -> None:
    images = random_map(1, 1, 96, 64).expand(1, 3, 96, 64) * 1e-3
    assert_close(folded(images), trained(images), rtol=EXACT, atol=EXACT)


def test_channels_last_gives_the_same(folded: OverLoCK) -> None:
    images = random_map(2, 3, 96, 224)
    network = copy.deepcopy(folded).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    got = network(images.contiguous(memory_format=torch.channels_last))
    assert_close(got.contiguous(), folded(images).contiguous(), rtol=EXACT, atol=EXACT)


def test_bfloat16_stays_near(folded: OverLoCK) -> None:
    images = random_map(1, 3, 96, 96)
    got = copy.deepcopy(folded).bfloat16()(images.bfloat16()).double()
    want = folded(images)
    error = (got - want).norm() / want.norm()
    assert error < 5e-2  # bfloat16 keeps 8 significant bits, and some sixty layers add up


def test_forward_leaves_its_input_alone(folded: OverLoCK) -> None:
    images = random_map(1, 3, 64, 64)
    before = images.clone()
    folded(images)
    assert_close(images, before, rtol=0, atol=0)


@pytest.fixture(scope="module")
def detecting() -> OverLoCK:
    return filled(OverLoCK(NANO, dense="detect"))


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_dense_maps_have_their_strides_and_widths(
    detecting: OverLoCK, height: int, width: int
) -> None:
    maps = detecting.dense_features(random_map(1, 3, height, width))
    for features, stride, channels in zip(
        maps, (4, 8, 16, 32), detecting.dense_channels, strict=True
    ):
        assert features.shape == (1, channels, -(-height // stride), -(-width // stride))


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(64, 96), (33, 47), (224, 256)])
def test_folded_dense_maps_are_the_same(detecting: OverLoCK, height: int, width: int) -> None:
    images = random_map(3, 3, height, width)
    want = detecting.dense_features(images)
    for got, expected in zip(
        fold(copy.deepcopy(detecting)).dense_features(images), want, strict=True
    ):
        assert_close(got, expected, rtol=EXACT, atol=EXACT)


def test_the_overview_shows_in_a_detectors_last_map_alone(detecting: OverLoCK) -> None:
    images = random_map(1, 3, 96, 64)
    segmenting = OverLoCK(NANO, dense="segment").double().eval()
    segmenting.load_state_dict(
        {key: value for key, value in detecting.state_dict().items() if "overview_" not in key}
        | {k: v for k, v in detecting.state_dict().items() if k.startswith("overview_down")}
    )
    *same, other = zip(
        segmenting.dense_features(images), detecting.dense_features(images), strict=True
    )
    assert all(torch.equal(got, want) for got, want in same)
    assert not torch.equal(*other)


def test_a_classifiers_backbone_has_no_dense_parts(trained: OverLoCK) -> None:
    assert not [name for name in trained.state_dict() if "dense" in name]


def test_drop_path_grows_from_the_first_block_to_the_last() -> None:
    backbone = OverLoCK(NANO)  # 1, 1, 2 and 1 basic blocks, then 2 and 1 dynamic ones
    backbone.set_drop_path(0.7)
    rates = [part.rate for part in backbone.modules() if isinstance(part, DropPath)]
    assert_close(rates, [0.1 * number for number in range(8)])


def test_drop_path_drops_both_branches_of_a_dynamic_block() -> None:
    backbone = filled(OverLoCK(NANO)).train()
    block = backbone.focus4[-1]
    assert isinstance(block, DynamicBlock)
    arguments = random_map(1, 96, 3, 3), random_map(1, 24, 3, 3), random_map(1, 24, 3, 3)
    block.drop_path.rate = 1 - 1e-12  # drops every image
    context = block.context_scale(arguments[1]) + block.initial_context_scale(arguments[2])
    joint = block.position_in(torch.cat((arguments[0], context), dim=1))
    want = block.output_scale(block.position_out(block.identity_scale(joint)))
    assert_close(block(*arguments), want)
