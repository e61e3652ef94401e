"""A contestant's process in the neighbours' environment; see ``benchmarks.neighbours.processes``.

It prints a line with the seconds of compiling once its first output is written, and then makes a
pass for every line on the standard input.

    python -m benchmarks.neighbours.runner openvino bfloat16 network.onnx images.npy output.npy 2
    python -m benchmarks.neighbours.runner compiled bfloat16 convnext_t images.npy output.npy 2
    python -m benchmarks.neighbours.runner export float32 convnext_t images.npy network.onnx 2
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.exported_file import pass_on_demand

Pass = Callable[[], NDArray[np.float32]]
"""Compute the logits of the images, (B, 1000)."""


def main() -> None:
    runtime, dtype, subject, source, target = sys.argv[1:6]
    images, threads = np.load(source), int(sys.argv[6])
    if runtime == "export":
        export(subject, images, Path(target))
        return
    started = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):  # for what libraries print
        if runtime == "onnxruntime":
            run = in_onnxruntime(subject, images, threads)
        elif runtime in ("openvino", "openvino-streams"):
            run = in_openvino(subject, images, threads, dtype, streams=runtime != "openvino")
        else:
            run = in_torch(subject, images, threads, dtype, compiled=runtime == "compiled")
        np.save(target, run())
    print(time.perf_counter() - started, flush=True)
    pass_on_demand(run)


def in_onnxruntime(path: str, images: NDArray[np.float32], threads: int) -> Pass:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_free_dimension_override_by_name("batch", len(images))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run() -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(None, {"images": images})[0]
        return logits

    return run


def in_openvino(
    path: str, images: NDArray[np.float32], threads: int, dtype: str, *, streams: bool
) -> Pass:
    import openvino

    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "THROUGHPUT" if streams else "LATENCY",
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[dtype],
        "INFERENCE_NUM_THREADS": threads,
    }
    network = core.read_model(path)
    parts = threads if streams else 1
    if len(images) % parts:
        raise ValueError(f"{len(images)} images cannot be shared evenly among {parts} streams.")
    network.reshape([len(images) // parts, *images.shape[1:]])
    compiled = core.compile_model(network, "CPU", settings)
    requests = [compiled.create_infer_request() for _ in range(parts)]
    shares = np.split(images, parts)

    def run() -> NDArray[np.float32]:
        for request, share in zip(requests, shares, strict=True):
            request.start_async({0: share}, share_inputs=True)
        for request in requests:
            request.wait()
        return np.concatenate([request.get_output_tensor(0).data for request in requests])

    return run


def in_torch(
    name: str, images: NDArray[np.float32], threads: int, dtype: str, *, compiled: bool
) -> Pass:
    import torch

    torch.set_num_threads(threads)
    number = {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
    network = neighbour(name).to(number).to(memory_format=torch.channels_last)
    inputs = torch.from_numpy(images).to(number).to(memory_format=torch.channels_last)
    forward = torch.compile(network, dynamic=False) if compiled else network

    def run() -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = forward(inputs).float().numpy()
        return logits

    return run


def neighbour(name: str) -> Any:
    """Return a network with random weights, the same every time: (B, 3, H, W) to logits."""
    import torch

    torch.manual_seed(0)
    if name == "moganet_b":
        os.environ["KECAM_BACKEND"] = "torch"
        from keras_cv_attention_models import moganet

        shape = (3, 224, 224)
        network = moganet.MogaNetBase(
            pretrained=None, input_shape=shape, classifier_activation=None
        )
        return network.eval()
    from transformers import (
        ConvNextConfig,
        ConvNextForImageClassification,
    )

    depths, hidden_sizes = {
        "convnext_t": ([3, 3, 9, 3], [96, 192, 384, 768]),
        "convnext_b": ([3, 3, 27, 3], [128, 256, 512, 1024]),
    }[name]
    config = ConvNextConfig(depths=depths, hidden_sizes=hidden_sizes, num_labels=1000)

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = ConvNextForImageClassification(config)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.network(images).logits
            return logits

    return Logits().eval()


def export(name: str, images: NDArray[np.float32], path: Path) -> None:
    """Write a neighbour as ONNX, for any number of images."""
    import torch

    torch.onnx.export(
        neighbour(name),
        (torch.from_numpy(images[:2]),),
        path,
        dynamo=True,
        external_data=False,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
    )


if __name__ == "__main__":
    main()
