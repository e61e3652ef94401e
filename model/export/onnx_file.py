"""ONNX files: made by PyTorch's exporter, run by ONNX Runtime.

Needs the packages onnx, onnxruntime and onnxscript.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx_ir.passes.common import CommonSubexpressionEliminationPass, RemoveUnusedNodesPass
from onnxscript.optimizer import fold_constants
from torch.export import ExportedProgram

from model.export.program import BATCH_NAME, INPUT_NAME, OUTPUT_NAME

OPSET = 20
"""The first with GELU as one operator."""


def write_onnx(
    program: ExportedProgram, metadata: Mapping[str, str], path: Path, *, producer_version: str
) -> None:
    """Write a traced network as one ONNX file, weights included.

    Args:
        program: see ``model.export.program``.
        metadata: for the file's ``metadata_props``.
        path: of the file.
        producer_version: version of the program that exports.
    """
    graph = _converted(program)
    fold_constants(graph)
    for rewrite in (
        RemoveUnusedNodesPass(),
        CommonSubexpressionEliminationPass(),
        RemoveUnusedNodesPass(),
    ):
        rewrite(graph)
    for node in graph.graph:
        node.metadata_props.clear()  # the tracer's notes: this machine's paths
    proto = onnx_ir.to_proto(graph)
    proto.producer_name, proto.producer_version = "overlock-service", producer_version
    # The shapes between follow from the input's, and PyTorch's names for the batch with them.
    proto.graph.ClearField("value_info")
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH_NAME
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _converted(program: ExportedProgram) -> onnx_ir.Model:
    """Convert without PyTorch's optimizer, which takes minutes for what runtimes do themselves."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    try:
        registration.setLevel(logging.ERROR)  # it misses torchvision, which nothing here needs
        with warnings.catch_warnings():
            # PyTorch's own copy of a graph, in 2.13
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
            exported = torch.onnx.export(
                program,
                dynamo=True,
                optimize=False,
                opset_version=OPSET,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                verbose=False,
            )
    finally:
        registration.setLevel(level)
    assert exported is not None
    return exported.model


class OnnxFile:
    """An ONNX file in ONNX Runtime, on the CPU.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute logits, (B, ...), of images (B, C, H, W)."""
        (logits,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: images})
        return np.asarray(logits, np.float32)
