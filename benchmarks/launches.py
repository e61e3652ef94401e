"""Count the launches of one batch on a GPU, without one.

The network consists of fake tensors on a described H200, on which every operation is followed but
nothing is computed. Regions are compiled as they are served, up to the code that would launch
kernels; launches are counted in that code. Everything else runs operator by operator: each that is
no view is a launch, and a convolution with a bias is two.

Every operation that is chosen by measuring is taken to run our kernel. A library call counts as one
launch, and the compiler pads no matrix: both depend on the device.

    python -m benchmarks.launches --model overlock_t --batch 64 1
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import torch
from torch import Tensor, nn
from torch._inductor import compile_fx
from torch._inductor.graph import GraphLowering
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from benchmarks.described_gpu import describe, described_device, load_guard
from model.config import CLASSIFIERS
from model.heads.classifier import ImageClassifier
from model.inference import compiled
from model.inference.static_module import StaticModule
from model.kernels import (
    activated_depthwise,
    context_mixing,
    large_depthwise,
    position_norm,
    response_norm,
    squeeze_excite,
)
from model.kernels.gpu import activated_depthwise as gpu_activated_depthwise
from model.kernels.gpu import context_mixing as gpu_context_mixing
from model.kernels.gpu import depthwise_16bit, depthwise_float32
from model.kernels.gpu import position_norm as gpu_position_norm
from model.kernels.gpu import response_norm as gpu_response_norm
from model.kernels.gpu import squeeze_excite as gpu_squeeze_excite
from model.kernels.gpu.autotune import Autotuner
from model.lowering.folding import fold
from model.lowering.gpu import lower_for_gpu

OPERATORS: dict[Any, tuple[Any, ...]] = {
    activated_depthwise: (
        gpu_activated_depthwise.activated_depthwise_triton,
        gpu_activated_depthwise.depthwise_gelu_triton,
    ),
    context_mixing: (gpu_context_mixing.context_mixing_triton,),
    large_depthwise: (
        depthwise_16bit.depthwise_matrix_triton,
        depthwise_float32.large_depthwise_triton,
    ),
    position_norm: (gpu_position_norm.position_norm_triton,),
    response_norm: (gpu_response_norm.response_norm_triton,),
    squeeze_excite: (gpu_squeeze_excite.squeeze_excite_triton,),
}
"""Modules that import their operators only beside a GPU, and these."""

PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "bias_addmm")
"""Library calls that multiply matrices."""

OWN_LIBRARY_CALLS = {"overlock.add_product": "product added in place"}
"""Our operators that are one library call, by what it is counted as."""

LAUNCH = re.compile(
    r"^\s*(?:\w+ = )?(?:extern_kernels\.(?P<library>\w+)\(|(?P<kernel>\w+)\.run\("
    r"|torch\.ops\.(?P<operator>\w+\.\w+)[.(])",
    re.MULTILINE,
)


class EagerLaunches(TorchDispatchMode):
    """Counts operators that are launched one by one."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()
        self.paused = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Count an operator."""
        name = func.overloadpacket.__name__
        if not self.paused and not _launches_nothing(func):
            self.counts[f"eager {name}"] += 1
            if name == "convolution" and args[2] is not None:
                self.counts["eager bias of a convolution"] += 1
        return func(*args, **(kwargs or {}))


def _launches_nothing(func: Any) -> bool:
    name = func.overloadpacket.__name__
    returns_view = any(
        each.alias_info and not each.alias_info.is_write for each in func._schema.returns
    )
    return returns_view or name.startswith(("empty", "new_empty")) or func.namespace == "prim"


@dataclass
class Part:
    """A kind of region on a map's size, or everything else.

    Attributes:
        kind: name of the region's class.
        launches: of one run, by kind.
        times: how often it runs in a batch.
    """

    kind: str
    launches: Counter[str]
    times: int = 0


class RegionLaunches:
    """A backend of torch.compile that counts the launches in the code of each region's graph."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.kind = ""

    def __call__(self, graph: Any, inputs: list[Any]) -> Callable[..., Any]:
        """Write the graph's code; return the graph itself, whose launches count when it runs."""
        code: list[str] = []

        def keep(_: GraphLowering, written: Any) -> Any:
            code.append(written.value)
            return SimpleNamespace(call=lambda _: (), __file__="")

        settings = {
            "force_disable_caches": True,
            "joint_graph_constant_folding": False,  # it would compute constants on the device
            "shape_padding": False,
        }
        with (
            mock.patch.object(GraphLowering, "_compile_to_module_lines", keep),
            torch._inductor.config.patch(settings),
        ):
            compile_fx.compile_fx(graph, inputs)
        part = Part(self.kind, launches_in(code[-1]))
        self.parts.append(part)

        def run(*arguments: Any) -> Any:
            part.times += 1
            # A graph that makes a tensor of its own needs the others' mode.
            with next(each.fake_mode for each in arguments if isinstance(each, FakeTensor)):
                return graph(*arguments)

        return run


def launches_in(code: str) -> Counter[str]:
    """Count launches in a compiled graph's code, by kind."""
    counts: Counter[str] = Counter()
    for match in LAUNCH.finditer(code[code.index("def call(") :]):
        library, kernel, operator = match["library"], match["kernel"], match["operator"]
        if library:
            counts["product" if library in PRODUCTS else f"library {library}"] += 1
        elif kernel and kernel.startswith("triton_"):
            counts[f"compiler's {kernel.split('_')[1]}"] += 1
        elif kernel:
            counts[f"our {kernel.strip('_').rsplit('_kernel', 1)[0]}"] += 1
        else:
            counts[OWN_LIBRARY_CALLS.get(operator, f"operator {operator}")] += 1
    return counts


def count_launches(name: str, batch: int, kinds: Collection[str] | None = None) -> list[Part]:
    """Count the launches of a batch of a classifier in bfloat16.

    Args:
        name: of the classifier.
        batch: number of images.
        kinds: of regions to count, the first one of each; None for all that a batch launches.
    """
    torch._dynamo.reset()
    config = CLASSIFIERS[name]
    load_guard()
    for module, operators in OPERATORS.items():
        for operator in operators:
            setattr(module, operator._name.split("::")[-1] + "_triton", operator)
    with torch.device("meta"):
        network = fold(ImageClassifier(config.backbone, 1000).eval()).to(torch.bfloat16)
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    autotuner = Autotuner()
    lower_for_gpu(network, autotuner)
    with described_device(), FakeTensorMode(), torch.inference_mode():
        device = torch.device("cuda", 0)
        describe(network, device)
        part = StaticModule(network, device, torch.bfloat16)
        side = config.geometry.crop_size
        pixels = torch.empty(batch, side, side, 3, dtype=torch.uint8, device=device)
        sizes = torch.empty(batch, 2, dtype=torch.int64, device=device)
        with autotuner.collect_problems() as problems:
            part(pixels, sizes)
        tile = "few" if batch == 1 else "many"
        for problem in problems:
            fastest = "triton" if problem[0] == context_mixing.OPERATION else tile
            autotuner.measure(problem, {fastest: object}, lambda _: 1.0)
        regions = RegionLaunches()
        if kinds is None:
            regions.parts.append(_eager_launches(part, pixels, sizes))
        compiled.CompiledModule(part, backend=regions)  # type: ignore[arg-type]
        run = compiled._Region.forward

        def forward(region: compiled._Region, *maps: Tensor) -> Tensor:
            """Run a region as the compiler demands; fake tensors bring their mode along."""
            regions.kind = type(region.block).__name__
            counted = {each.kind for each in regions.parts}
            if kinds is not None and (regions.kind not in kinds or regions.kind in counted):
                return cast("Tensor", region.block(*maps))
            with _disable_current_modes():
                return run(region, *maps)

        with mock.patch.object(compiled._Region, "forward", forward):
            part(pixels, sizes)
    return regions.parts


def _eager_launches(part: nn.Module, pixels: Tensor, sizes: Tensor) -> Part:
    launches = EagerLaunches()

    def pause(*_: Any) -> None:
        launches.paused = True

    def resume(*_: Any) -> None:
        launches.paused = False

    hooks = [
        hook
        for module in part.modules()
        if isinstance(module, compiled.REGIONS)
        for hook in (
            module.register_forward_pre_hook(pause),
            module.register_forward_hook(resume),
        )
    ]
    # Outside of inference mode composed operators are taken apart.
    with torch.inference_mode(mode=False), torch.no_grad(), launches:
        part(pixels, sizes)
    for hook in hooks:
        hook.remove()
    return Part("between them", launches.counts, times=1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", choices=CLASSIFIERS, default="overlock_t")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 1])
    arguments = parser.parse_args()
    for batch in arguments.batch:
        parts, total = count_launches(arguments.model, batch), Counter[str]()
        for part in parts:
            sys.stdout.write(f"{part.times:5} x {sum(part.launches.values()):2} {part.kind}\n")
            for kind, count in part.launches.items():
                total[kind] += part.times * count
        for kind, count in total.most_common():
            sys.stdout.write(f"{count:5} {kind}\n")
        sys.stdout.write(f"{sum(total.values()):5} launches of {batch} images\n")


if __name__ == "__main__":
    main()
