"""A backbone's shape is checked when it is made, and says what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest

from model.config import BACKBONES
from model.variants.backbone_config import BackboneConfig

FIELDS: dict[str, Any] = {
    "depths": (1, 2, 1, 1),
    "focus_depths": (1, 1),
    "channels": (12, 20, 24, 48),
    "focus_heads": (3, 2),
}


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("depths", (1, 1, 1), "4 integers of at least 1"),
        ("depths", (1, 0, 1, 1), "4 integers of at least 1"),
        ("depths", 2, "4 integers of at least 1"),
        ("focus_depths", (1, 1, 1), "2 integers of at least 1"),
        ("focus_depths", (1, 1.5), "2 integers of at least 1"),
        ("channels", (12, 20, 25, 48), "divisible by 4 times focus_heads (25 by 3)"),
        ("channels", (3, 20, 24, 48), "4 integers of at least 4"),
        ("focus_heads", (0, 2), "2 integers of at least 1"),
        ("kernel_sizes", (17, 15, 13, 21), "odd numbers from 5 to 19"),
        ("kernel_sizes", (17, 15, 12, 7), "odd numbers from 5 to 19"),
        ("kernel_sizes", (3, 15, 13, 7), "4 integers of at least 5"),
        ("small_kernel", 4, "odd and at most as large as kernel_sizes[2:]"),
        ("small_kernel", 9, "odd and at most as large as kernel_sizes[2:]"),
        ("small_kernel", 1, "an integer of at least 3"),
        ("small_kernel", (5,), "an integer of at least 3"),
        ("small_kernel", True, "an integer of at least 3"),
        ("mlp_ratio", (4, 4, 4), "one ratio or 4 that leave each stage a hidden channel"),
        ("mlp_ratio", 0.01, "one ratio or 4 that leave each stage a hidden channel"),
        ("mlp_ratio", float("nan"), "one ratio or 4 that leave each stage a hidden channel"),
        ("mlp_ratio", "4", "one ratio or 4 that leave each stage a hidden channel"),
        ("focus_mlp_ratio", -3, "one ratio or 2 that leave each stage a hidden channel"),
        ("layer_scale", (False, True), "4 times true or false"),
        ("layer_scale", (0, 0, 1, 1), "4 times true or false"),
        ("layer_scale", True, "4 times true or false"),
        ("context_grid", 0, "an integer of at least 1"),
        ("head_channels", 0, "an integer of at least 1"),
        ("in_channels", 0, "an integer of at least 1"),
    ],
)
def test_what_cannot_be_is_refused_with_field_value_and_limit(
    name: str, value: object, wanted: str
) -> None:
    with pytest.raises(ValueError, match="BackboneConfig") as refusal:
        BackboneConfig(**(FIELDS | {name: value}))
    assert str(refusal.value) == f"BackboneConfig.{name} is {value!r}, not {wanted}."


def test_lists_are_tuples_and_equal_ratios_one() -> None:
    lists = {name: list(value) for name, value in FIELDS.items()}
    config = BackboneConfig(**lists, mlp_ratio=[2.5] * 4, focus_mlp_ratio=[2, 3])  # type: ignore[arg-type]
    assert config == BackboneConfig(**FIELDS, mlp_ratio=2.5, focus_mlp_ratio=(2, 3))
    assert hash(config) == hash(BackboneConfig(**FIELDS, mlp_ratio=2.5, focus_mlp_ratio=(2, 3)))


def test_hidden_widths_are_rounded_down() -> None:
    config = BackboneConfig(**FIELDS, mlp_ratio=(4, 2.33, 1, 0.5), focus_mlp_ratio=2.7)
    assert [config.hidden_channels(stage) for stage in range(4)] == [48, 46, 24, 24]
    assert [config.focus_hidden_channels(stage) for stage in (2, 3)] == [64, 129]


@pytest.mark.parametrize("kernel_size", range(5, 20, 2))
def test_every_odd_kernel_of_the_authors_is_taken(kernel_size: int) -> None:
    assert BackboneConfig(**FIELDS, kernel_sizes=(kernel_size,) * 4).small_kernel == 5


def test_published_backbones_are_checked_too() -> None:
    assert BACKBONES["overlock_xt"].hidden_channels(0) == 4 * 56
    assert BACKBONES["overlock_xt"].focus_hidden_channels(3) == 3 * 336
