"""Files of every network of the paper, in both formats; for ``make test-exhaustive``."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.config import CLASSIFIERS, SEGMENTERS, Task
from model.export.comparison import (
    expected_logits,
    largest_difference,
    limit_of,
    sample_images,
)
from model.export.onnx_file import OnnxFile, write_onnx
from model.export.program import traced
from model.export.torch_file import TorchFile, write_torch
from model.lowering.portable import make_portable
from model.zoo import load_model

NETWORKS = [
    *((name, Task.CLASSIFY, (224, 224)) for name in CLASSIFIERS),
    *((name, Task.SEGMENT, (512, 704)) for name in SEGMENTERS),
]


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)  # minutes, for the large ones
@pytest.mark.parametrize(("name", "task", "size"), NETWORKS)
def test_a_network_is_the_same_function_in_both_formats(
    name: str, task: Task, size: tuple[int, int], tmp_path: Path
) -> None:
    loaded = load_model(name, weights="random", task=task)
    images = sample_images(loaded.input, size, None)
    expected = expected_logits(loaded.network, images)
    program = traced(make_portable(loaded.network), loaded.input.channels, size)
    write_onnx(program, {}, tmp_path / "x.onnx", producer_version="0")
    write_torch(program, {}, tmp_path / "x.pt2")
    for file in (OnnxFile(tmp_path / "x.onnx"), TorchFile(tmp_path / "x.pt2")):
        assert largest_difference(file, images, expected) <= limit_of(expected)
