"""The code of docs/training.md runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from model.checkpoints.official_names import official_state
from model.zoo import create_model, load_model
from support.filled import random_map

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
IMAGES = random_map(4, 3, 64, 64, dtype=torch.float32)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A file with all that a published one has, of the smallest network."""
    path = tmp_path / "published.pth"
    torch.save(official_state(create_model("demo", weights="random", fused=False)), path)
    return path


def run(block: str, published: Path, **names: Any) -> dict[str, Any]:
    assert '"overlock_t", weights="pretrained"' in block
    small = block.replace('"overlock_t", weights="pretrained"', f'"demo", weights="{published}"')
    exec(compile(small, "docs/training.md", "exec"), names)  # our own document
    return names


@pytest.mark.slow
def test_training_for_other_classes_ends_in_a_file_to_serve(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = torch.tensor([0, 1, 1, 0])
    names = run(BLOCKS[0], published, batches=[(IMAGES, labels)] * 3)
    served = load_model("demo", weights=Path("birds.pth"))
    assert served.labels == ("class 0", "class 1")
    network = names["network"].eval()
    with torch.inference_mode():
        want = network(IMAGES)
        got = served.network(IMAGES)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-4 * want.abs().max().item())
    before = load_model("demo", weights=published, fused=False).network.state_dict()
    moved = network.backbone.stem.layers[0].conv.weight
    assert not torch.equal(moved, before["backbone.stem.layers.0.conv.weight"])


def test_the_backbone_has_the_widths_that_the_page_says(published: Path) -> None:
    names = run(BLOCKS[1], published, images=IMAGES)
    shapes = [tuple(names[name].shape[2:]) for name in ("stage1", "stage2", "focus3", "focus4")]
    assert shapes == [(16, 16), (8, 8), (4, 4), (2, 2)]
    backbone = create_model("overlock_t", weights="random", features=True)
    assert f"backbone.channels  # {backbone.channels};" in BLOCKS[1]
