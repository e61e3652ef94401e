"""Every problem that a network has is measured once, by its own operation's candidates."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.nn.utils import convert_conv2d_weight_memory_format

from model.config import BACKBONES
from model.heads.classifier import ImageClassifier
from model.kernels.gpu.autotune import Autotuner
from model.kernels.gpu.tuning import CANDIDATES, tune
from model.lowering.folding import fold
from model.lowering.gpu import lower_for_gpu
from support.filled import filled

LOOKUPS = (
    "model.kernels.context_mixing",
    "model.kernels.gpu.selection",
)


def test_a_networks_problems_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in LOOKUPS:
        monkeypatch.setattr(f"{module}.triton_unsupported_reason", lambda *_: None)
    monkeypatch.setattr(
        "model.kernels.context_mixing.context_mixing_triton",
        lambda values, *_: values,  # kernels are chosen here, not run
        raising=False,
    )
    network = fold(filled(ImageClassifier(BACKBONES["nano"], 3), torch.float32))
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    autotuner = Autotuner()
    lower_for_gpu(network, autotuner)

    def operations(batch: int) -> list[str]:
        images = torch.zeros(batch, 3, 32, 32).to(memory_format=torch.channels_last)
        run = partial(torch.inference_mode()(network), images)
        return [str(each.problem[0]) for each in tune(run, autotuner, batch, lambda _: 1.0)]

    several = operations(2)
    assert {*several} == {*CANDIDATES}
    # Four stages and two of the focus net's; those of the same width and map share a problem.
    assert (several.count("activated_depthwise"), several.count("position_norm")) == (6, 6)
    assert (operations(3), operations(1)) == ([], several)
