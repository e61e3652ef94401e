"""The classifiers in all forms, with the weights of ``golden.fill``."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch

from model.heads.classifier import ImageClassifier
from model.kernels.gpu.autotune import Autotuner
from model.lowering.cpu import lower_for_cpu
from model.lowering.folding import merge_branches
from model.lowering.gpu import lower_for_gpu
from model.zoo import create_model
from support.golden_networks import NetworkOf, checkpoint_file


@pytest.fixture(scope="session")
def network_of(tmp_path_factory: pytest.TempPathFactory) -> NetworkOf:
    """Return the network of a variant in a form, loaded from a file.

    The forms are those of ``FORMS``, and "for a GPU", on PyTorch's operators, and "bfloat16".
    """

    @cache
    def loaded(variant: str, form: str) -> ImageClassifier:
        if form in ("trained", "folded"):
            name = f"overlock_{variant}"
            with checkpoint_file(tmp_path_factory, name) as path:
                network = create_model(name, weights=path, fused=form == "folded")
            assert isinstance(network, ImageClassifier)
            return network
        if form == "merged":
            return merge_branches(copy.deepcopy(loaded(variant, "trained")))
        network = copy.deepcopy(loaded(variant, "folded"))
        if form == "native":
            return lower_for_cpu(network, torch.float32)
        if form == "bfloat16":
            return lower_for_cpu(network, torch.bfloat16)
        if form == "for a GPU":
            lower_for_gpu(network, Autotuner())
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    return loaded
