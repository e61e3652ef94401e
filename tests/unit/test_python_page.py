"""docs/python.md: the layers' lengths are the networks', and the code of embeddings runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from model.config import CLASSIFIERS
from model.heads.classifier import ImageClassifier
from model.zoo import create_model
from support.filled import random_map

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text("utf-8")
ROWS = {
    cells[0].strip(" `"): [int(cell) for cell in cells[2:]]
    for cells in (line.strip("|").split("|") for line in PAGE.splitlines())
    if len(cells) == 7 and cells[2].strip().isdecimal()
}


def test_the_lengths_of_the_layers_are_the_networks() -> None:
    with torch.device("meta"):
        networks = [ImageClassifier(each.backbone, 1000) for each in CLASSIFIERS.values()]
    assert list(CLASSIFIERS)[:4] == [f"overlock_{variant}" for variant in ("xt", "t", "s", "b")]
    assert list(ROWS) == list(networks[0].layer_dimensions)
    for layer, lengths in ROWS.items():
        assert lengths == [network.layer_dimensions[layer] for network in networks]


@pytest.mark.slow
@torch.inference_mode()
def test_the_code_of_embeddings_and_class_maps_runs() -> None:
    (block,) = re.findall(r"```python\n(embeddings = .*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {
        "network": create_model("overlock_t", weights="random"),
        "images": random_map(2, 3, 64, 96, dtype=torch.float32),
    }
    exec(compile(block, "docs/python.md", "exec"), names)  # our own document
    assert names["embeddings"].shape == (2, 1024)
    assert names["textures"].shape == (2, 128)
    assert names["maps"].focus.shape == names["maps"].overview.shape == (2, 3, 2, 3)
