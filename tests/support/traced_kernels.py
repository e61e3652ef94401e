"""Trace operations for a GPU, on a machine without one, and say what the compiler sees.

Run as a program, with Triton's interpreter off: prints a line for each operation, its name and
what is wrong with it, if anything is. Nothing is launched: no tensor has any data.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch._functorch.aot_autograd import aot_module_simplified
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

there_is_a_gpu = torch.cuda.is_available
torch.cuda.is_available = lambda: True  # kernels are imported where there is one

from model.heads.label_map import label_map  # noqa: E402
from model.kernels.context_mixing import context_mixing  # noqa: E402
from model.kernels.gpu.autotune import Autotuner  # noqa: E402
from model.kernels.gpu.roi_align import roi_align_triton  # noqa: E402
from model.kernels.large_depthwise import (  # noqa: E402
    depthwise_problem,
    large_depthwise_with_sums,
)

torch.cuda.is_available = there_is_a_gpu


class Traced(BaseException):
    """Ends a compilation once there is a graph; no handler of the compiler's catches it."""


def compiled(operation: Callable[..., Any], *arguments: Any) -> None:
    """Check that the compiler makes one graph of an operation, with a kernel in it."""
    graphs: list[str] = []

    def backend(module: Any, inputs: Any) -> Any:
        def record(graph: Any, inputs: Any) -> Any:
            graphs.append(graph.code)
            raise Traced

        return aot_module_simplified(module, inputs, fw_compiler=record)  # type: ignore[arg-type]

    with suppress(Traced):
        torch.compile(operation, fullgraph=True, backend=backend)(*arguments)
    (code,) = graphs
    assert "triton_kernel_wrapper_functional" in code, code


def empty(*shape: int) -> Tensor:
    return torch.empty(shape, device="cuda", dtype=torch.bfloat16)


def mixed_contexts() -> None:
    with FakeTensorMode():
        shapes = (2, 32, 14, 14), (2, 16, 14, 14), (2, 1, 194, 16), (1, 5, 5, 25), (1, 13, 13, 169)
        arguments = [empty(*shape) for shape in shapes]
        arguments[0] = arguments[0].to(memory_format=torch.channels_last)
        result = context_mixing(*arguments)
        assert (result.shape, result.stride()) == (arguments[0].shape, arguments[0].stride())
        compiled(context_mixing, *arguments)


def measured_depthwise() -> None:
    with FakeTensorMode():
        features, weight, bias = (empty(*s) for s in ((2, 56, 14, 14), (56, 1, 13, 13), (56,)))
        features = features.to(memory_format=torch.channels_last)
        taps = empty(64, 32, 19, 16)
        autotuner = Autotuner()
        problem = depthwise_problem(features, 13, with_sums=True)
        autotuner.measure(
            problem, {"plain": object, "few": list}, lambda run: 1 if run is list else 2
        )
        convolved, sums = large_depthwise_with_sums(features, weight, bias, taps, autotuner)
        assert (convolved.shape, convolved.stride()) == (features.shape, features.stride())
        assert (sums.shape, sums.dtype) == ((2, 7, 56), torch.float32)
        # As a service compiles all batches but single images.
        torch._dynamo.mark_dynamic(features, 0)
        compiled(large_depthwise_with_sums, features, weight, bias, taps, autotuner)


def label_maps() -> None:
    with FakeTensorMode():
        logits, sizes = empty(150, 128, 176), ((512, 704), (375, 500))
        labels = label_map(logits, *sizes)
        assert (labels.shape, labels.dtype) == ((375, 500), torch.uint8)
        assert labels.device.type == "cuda"
        compiled(label_map, logits, *sizes)


def symbolic_boxes() -> None:
    shapes = ShapeEnv()
    with FakeTensorMode(shape_env=shapes) as mode:
        levels = [
            torch.empty_strided(
                (256, height, width), (1, width * 256, 256), device="cuda", dtype=torch.bfloat16
            )
            for height, width in ((200, 336), (100, 168), (50, 84), (25, 42))
        ]
    meta = mode.from_tensor(torch.empty(1000, 4, device="meta"), static_shapes=False)
    with mode:
        boxes = torch.empty(meta.shape[0], 4, device="cuda")
        pooled = roi_align_triton(levels, boxes, 7, 4, 56)
        assert pooled.shape[0] == boxes.shape[0], pooled.shape
        assert not isinstance(boxes.shape[0], int)
        assert not shapes.replacements, shapes.replacements
        assert (pooled.dtype, pooled.shape[1:]) == (torch.bfloat16, (256, 7, 7))
        assert pooled.stride()[1:] == (1, 7 * 256, 256), pooled.stride()


OPERATIONS = (mixed_contexts, measured_depthwise, label_maps, symbolic_boxes)

if __name__ == "__main__":
    for operation in OPERATIONS:
        torch._dynamo.reset()
        try:
            operation()
            wrong = ""
        except Exception:  # noqa: BLE001 - every other operation is tried too
            wrong = traceback.format_exc()
        sys.stdout.write(f"{operation.__name__} {wrong!r}\n")
