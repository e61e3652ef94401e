"""The graph of a network, traced once; both formats are made of it."""

from __future__ import annotations

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

INPUT_NAME, OUTPUT_NAME, BATCH_NAME = "images", "logits", "batch"

TRACED_BATCH = 2
"""Images of the input that is traced: PyTorch takes a dimension of 1 for one that never changes."""

NOTES_OF_TRACING = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")
"""What the tracer notes at every operator: this machine's paths, and names of this package."""


def traced(network: nn.Module, channels: int, size: tuple[int, int]) -> ExportedProgram:
    """Trace a network for any number of images of one size.

    The sides are fixed: small maps are enlarged by rules that depend on them, and pooled in regions
    of uneven sizes.

    Args:
        network: portable (``model.lowering.portable``), in evaluation mode, float32, on the CPU.
        channels: of its input.
        size: height and width of its input, pixels.

    Returns:
        The graph, from float32 (B, channels, height, width) to the network's output.
    """
    images = torch.zeros(TRACED_BATCH, channels, *size)
    program = torch.export.export(
        network,
        (images,),
        dynamic_shapes={INPUT_NAME: {0: Dim(BATCH_NAME, min=1)}},
        strict=False,
    )
    for node in program.graph.nodes:
        for note in NOTES_OF_TRACING:
            node.meta.pop(note, None)
    return program
