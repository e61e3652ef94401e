"""The traced graph is the network's function, and has nothing of this package or this machine."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.export.program import NOTES_OF_TRACING
from support.exported import small_program, some_images

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_the_graph_takes_any_number_of_images(batch: int) -> None:
    program, expected = small_program()
    got = program.module()(torch.from_numpy(some_images()[:batch]))
    # float32: sums in another order, of logits near 1
    np.testing.assert_allclose(got.numpy(), expected[:batch], rtol=0, atol=1e-5)


def test_the_graph_has_pytorchs_own_operators_alone() -> None:
    targets = {
        str(node.target)
        for node in small_program()[0].graph.nodes
        if node.op == "call_function" and not str(node.target).startswith("<built-in function")
    }
    assert {target.partition(".")[0] for target in targets} == {"aten"}
    assert not [target for target in targets if "as_strided" in target or "_scatter" in target]


def test_the_notes_of_the_tracer_are_gone() -> None:
    for node in small_program()[0].graph.nodes:
        assert not set(node.meta) & set(NOTES_OF_TRACING)
