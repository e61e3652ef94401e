from __future__ import annotations

from pathlib import Path

import pytest

from model.pretrained import assets
from model.pretrained.assets import PretrainedError, asset_of
from model.zoo import create_model


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cascade_mask_rcnn_overlock_t", "published no weights of cascade_mask_rcnn_overlock_t"),
        ("upernet_overlock_xt", "published no weights of upernet_overlock_xt"),
        ("demo", "brings its own weights"),
    ],
)
def test_what_was_not_published_is_refused_with_what_was(
    tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(PretrainedError, match=f"{reason}.*There are .*mask_rcnn_overlock_b"):
        create_model(name, weights="pretrained", pretrained_folder=tmp_path)


def test_every_published_file_is_of_a_model_that_there_is() -> None:
    for name in assets.ASSETS:
        assert asset_of(name).url.startswith("https://github.com/LMMMEng/OverLoCK/releases/")
    assert asset_of("overlock_xt").file == "overlock_xt_in1k_224.pth"
    assert asset_of("upernet_overlock_s").file == "upernet_overlock_small_ade20k.pth"
    assert asset_of("mask_rcnn_overlock_b").file == "maskrcnn3x_overlock_base_coco.pth"
    assert len(assets.ASSETS) == 10
