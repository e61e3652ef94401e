"""Profile a forward pass on a CPU by kind of work, in every form of a network.

Every module and each of our kernels is timed without the modules that it calls. The rest of a block
is "the rest": activations, sums and copies in its own forward method.

    python benchmarks/where_time_goes.py --model overlock_t --batch 8
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.authors_structure import (
    ConvolvedLayerScale,
    FlippingLayerNorm2d,
    with_authors_structure,
)
from benchmarks.contestants import DTYPES
from benchmarks.machine import describe_machine
from model.backbone.context_mixing import ContextMixing, FoldedContextMixing
from model.backbone.layers import GlobalResponseNorm, LayerNorm2d, LayerScale, SqueezeExcite
from model.kernels.cpu import launch
from model.kernels.cpu.dense_conv import DenseConv
from model.kernels.cpu.library import native_library
from model.kernels.cpu.packed_conv import PackedConv
from model.lowering.cpu import lower_for_cpu, lowering_unsupported_reason
from model.lowering.cpu_blocks import NativeContextMixing
from model.zoo import create_model

RESULTS = Path(__file__).parent / "results"
FORMS = (
    ("authors", "float32"),
    ("folded", "float32"),
    ("served", "float32"),
    ("folded", "bfloat16"),
    ("served", "bfloat16"),
)
DENSE, LARGE, SMALL = "dense convolutions", "large depthwise", "3x3 depthwise"
NORMS, RESPONSE, EXCITE = "batch and layer norms", "response norms", "squeeze-excite"
SCALES, MIXING, REST = "layer scales", "ContMix", "the rest"
KINDS = (DENSE, LARGE, SMALL, NORMS, RESPONSE, EXCITE, SCALES, MIXING, REST)
KIND_OF_CLASS: dict[type[nn.Module], str] = {
    DenseConv: DENSE,
    PackedConv: DENSE,
    nn.BatchNorm2d: NORMS,
    LayerNorm2d: NORMS,
    FlippingLayerNorm2d: NORMS,
    GlobalResponseNorm: RESPONSE,
    SqueezeExcite: EXCITE,
    LayerScale: SCALES,
    ConvolvedLayerScale: SCALES,
    ContextMixing: MIXING,
    FoldedContextMixing: MIXING,
    NativeContextMixing: MIXING,
}
KIND_OF_FUNCTION = {
    "overlock_layer_norm": NORMS,
    "overlock_sums": RESPONSE,
    "overlock_response_norm": RESPONSE,
    "overlock_excite": EXCITE,
    "overlock_context_mixing": MIXING,
    "overlock_pool": MIXING,
    "overlock_mix_keys": MIXING,
    "overlock_join_context": REST,
    "overlock_dense": DENSE,
}


class Stopwatch:
    """Sums of the time of nested work, each part without the parts inside it."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = 0.0

    def enter(self, kind: str) -> None:
        """Begin a kind of work inside the present one."""
        self._count()
        self._open.append(kind)

    def leave(self) -> None:
        """End the innermost work."""
        self._count()
        self._open.pop()

    def _count(self) -> None:
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def watch(self, network: nn.Module) -> None:
        """Time every module of a network from now on."""
        for part in network.modules():
            kind = kind_of(part)
            part.register_forward_pre_hook(lambda *_, kind=kind: self.enter(kind))
            part.register_forward_hook(lambda *_: self.leave())


class WatchedKernels:
    """Our kernels, timed."""

    def __init__(self, library: ctypes.CDLL, watch: Stopwatch) -> None:
        self._library, self._watch = library, watch

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self._library, name)

        def timed(*arguments: Any) -> Any:
            if name == "overlock_depthwise":
                self._watch.enter(LARGE if arguments[9] > 3 else SMALL)
            else:
                self._watch.enter(KIND_OF_FUNCTION[name])
            result = function(*arguments)
            self._watch.leave()
            return result

        return timed


@contextmanager
def watched_kernels(watch: Stopwatch) -> Iterator[None]:
    """Time work that no module's hook sees: our kernels, and convolutions that add to a map."""
    kernels = WatchedKernels(native_library(), watch)

    def timed(add_to: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def added(*arguments: Any) -> Tensor:
            watch.enter(DENSE)
            result = add_to(*arguments)
            watch.leave()
            return result

        return added

    with ExitStack() as patches:
        patches.enter_context(patch.object(launch, "native_library", lambda: kernels))
        for form in (DenseConv, PackedConv):
            patches.enter_context(patch.object(form, "add_to", timed(form.add_to)))
        yield


def kind_of(part: nn.Module) -> str:
    if isinstance(part, nn.Conv2d) and part.groups > 1:
        return LARGE if part.kernel_size[0] > 3 else SMALL
    if isinstance(part, nn.Conv2d):
        return DENSE
    return KIND_OF_CLASS.get(type(part), REST)


def profile(model: str, batch: int, form: str, dtype: str, repeats: int) -> dict[str, float]:
    """Return the seconds of one pass by kind."""
    watch = Stopwatch()
    network: nn.Module = create_model(model, weights="random", fused=form != "authors")
    images = torch.randn(batch, 3, 224, 224)
    if form == "authors":
        network = with_authors_structure(network)
    else:
        images = images.to(DTYPES[dtype], memory_format=torch.channels_last)
    if form == "served":
        network = lower_for_cpu(network, DTYPES[dtype])
    elif form == "folded":
        network = network.to(DTYPES[dtype])
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network(images)
    watch.watch(network)
    with watched_kernels(watch) if form == "served" else nullcontext():
        for _ in range(repeats):
            network(images)
    return {kind: watch.seconds[kind] / repeats for kind in KINDS}


def main() -> None:
    parser = argparse.ArgumentParser(description="Say where a forward pass spends its time.")
    parser.add_argument("--model", default="overlock_t")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    load_at_start = os.getloadavg()
    torch.set_num_threads(arguments.threads)
    with torch.inference_mode():
        columns = {
            f"{form} {dtype}": profile(
                arguments.model, arguments.batch, form, dtype, arguments.repeats
            )
            for form, dtype in FORMS
            if form != "served" or lowering_unsupported_reason(DTYPES[dtype]) is None
        }
    command = shlex.join(["python", "benchmarks/where_time_goes.py", *sys.argv[1:]])
    machine = describe_machine(load_at_start, arguments.threads)
    name = f"where-time-goes-{arguments.model}-{arguments.batch}"
    report = {"command": command, "machine": machine, "seconds": columns}
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    table = as_markdown(command, machine, columns)
    (RESULTS / f"{name}.md").write_text(table)
    print(table)


def as_markdown(command: str, machine: dict[str, str], columns: dict[str, dict[str, float]]) -> str:
    """Write the table for people, in milliseconds of a pass."""
    return "\n".join(
        [
            "# Where the time goes on a CPU",
            "",
            f"`{command}`",
            "",
            *(f"- {fact}: {value}" for fact, value in machine.items()),
            "",
            "Milliseconds of one pass, timers included; forms as in `network-cpu.md`. GELU and the",
            "residual sums are fused into the served form's dense convolutions.",
            "",
            f"| | {' | '.join(columns)} |",
            f"| --- |{' --: |' * len(columns)}",
            *(
                f"| {kind} | " + " | ".join(f"{c[kind] * 1e3:.0f}" for c in columns.values()) + " |"
                for kind in KINDS
            ),
            "| **all** | "
            + " | ".join(f"**{sum(c.values()) * 1e3:.0f}**" for c in columns.values())
            + " |",
            "",
        ]
    )


if __name__ == "__main__":
    main()
