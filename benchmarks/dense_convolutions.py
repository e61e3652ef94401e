"""Time the dense convolutions of the networks on a CPU: our kernel and oneDNN's, in turns.

One row for each kind of layer: of T's and XT's blocks for one image and eight, of their stems, and
of the dense tasks' heads. Both are checked against each other before they are timed. A matrix
product takes turns too: its rate is the floor that the rates are compared with. A dtype that oneDNN
does not pack on the processor is left out.

    python benchmarks/dense_convolutions.py --threads 2
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.contestants import DTYPES, GEMM_SIDE
from benchmarks.machine import describe_machine
from model.kernels.cpu.dense_conv import DenseConv
from model.kernels.cpu.packed_conv import Activation, PackedConv, packed_conv_unsupported_reason
from service.processes.environment import engine_environment

RESULTS = Path(__file__).parent / "results"
TURN_SECONDS = 0.02
"""Least time of a turn: a fast layer runs several times in it."""


@dataclass(frozen=True)
class Layer:
    """A convolution and its input; sides in pixels."""

    place: str
    batch: int
    side: int
    channels: int
    results: int
    kernel: int = 1
    stride: int = 1
    activation: Activation = "none"


def both(
    place: str,
    side: int,
    channels: int,
    results: int,
    kernel: int = 1,
    stride: int = 1,
    activation: Activation = "none",
) -> list[Layer]:
    """Return a layer for one image and for eight."""
    shape = (side, channels, results, kernel, stride)
    return [Layer(place, batch, *shape, activation) for batch in (1, 8)]


LAYERS = [
    *both("T, stem, first", 224, 3, 32, 3, 2, activation="gelu"),
    *both("T, stem, second", 112, 32, 32, 3, activation="gelu"),
    *both("T, first stage, expand", 56, 64, 256, activation="gelu"),
    *both("T, first stage, project", 56, 256, 64),
    *both("T, second stage, expand", 28, 128, 512, activation="gelu"),
    *both("T, focus, expand", 14, 384, 768, activation="gelu"),
    *both("T, focus, project", 14, 768, 384),
    *both("T, focus, gate", 14, 256, 256, activation="swish"),
    *both("T, downsampling", 14, 256, 512, 3, 2),
    *both("T, overview, expand", 7, 512, 2048, activation="gelu"),
    *both("XT, first stage, expand", 56, 56, 224, activation="gelu"),
    *both("XT, focus, expand", 14, 340, 768, activation="gelu"),
    Layer("UperNet, 3x3", 1, 64, 512, 512, 3, 1, "relu"),
    Layer("FPN, 3x3", 1, 128, 256, 256, 3),
    Layer("mask head, 3x3", 50, 14, 256, 256, 3, 1, "relu"),
]


@dataclass(frozen=True)
class Row:
    """Medians of one layer in one dtype: microseconds, and the matrix product's GFLOP/s."""

    layer: Layer
    dtype: str
    gflop: float
    onednn_us: float
    ours_us: float
    product_gflops: float

    @property
    def ratio(self) -> float:
        """How many times as fast ours is."""
        return self.onednn_us / self.ours_us


def measured(layer: Layer, dtype: str, turns: int) -> Row:
    """Time a layer.

    Raises:
        SystemExit: if the two differ by more than rounding.
    """
    conv = nn.Conv2d(
        layer.channels, layer.results, layer.kernel, layer.stride, layer.kernel // 2
    ).requires_grad_(requires_grad=False)
    shape = (layer.batch, layer.channels, layer.side, layer.side)
    features = torch.randn(shape).to(DTYPES[dtype], memory_format=torch.channels_last)
    ours = DenseConv(conv, DTYPES[dtype], layer.activation)
    onednn = PackedConv(conv, DTYPES[dtype], layer.activation)
    square = torch.randn(GEMM_SIDE, GEMM_SIDE).to(DTYPES[dtype])
    got, want = ours(features).float(), onednn(features).float()
    error = float((got - want).abs().max() / want.abs().max())
    if error > (1e-5 if dtype == "float32" else 2**-6):
        sys.exit(f"{layer}: the results differ by {error:.1e} of the largest.")
    works: dict[str, Callable[[], Tensor]] = {
        "onednn": lambda: onednn(features),
        "ours": lambda: ours(features),
        "product": lambda: square @ square,
    }
    times = turns_of(works, turns)
    gflop = 2e-9 * want.numel() * layer.channels * layer.kernel**2
    product = 2e-9 * GEMM_SIDE**3 / times["product"]
    return Row(layer, dtype, gflop, times["onednn"] * 1e6, times["ours"] * 1e6, product)


def turns_of(works: dict[str, Callable[[], Tensor]], turns: int) -> dict[str, float]:
    """Return each work's median seconds; they take turns."""
    repeats = {
        name: max(1, round(TURN_SECONDS / seconds_of(work, 1))) for name, work in works.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(turns):
        for name, work in works.items():
            seconds[name].append(seconds_of(work, repeats[name]))
    return {name: statistics.median(of) for name, of in seconds.items()}


def seconds_of(work: Callable[[], Tensor], repeats: int) -> float:
    """Return the mean seconds of some runs, after one that warms caches."""
    work()
    begin = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - begin) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description="Time dense convolutions, ours and oneDNN's.")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument(
        "--output", default="dense-convolutions-cpu", help="name of the files in results/"
    )
    arguments = parser.parse_args()
    environment = engine_environment()
    if any(os.environ.get(name) != value for name, value in environment.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | environment)
    load_at_start = os.getloadavg()
    torch.set_num_threads(arguments.threads)
    with torch.inference_mode():
        rows = [
            measured(layer, name, arguments.turns)
            for name, dtype in DTYPES.items()
            if packed_conv_unsupported_reason(dtype) is None
            for layer in LAYERS
        ]
    command = shlex.join(["python", "benchmarks/dense_convolutions.py", *sys.argv[1:]])
    machine = describe_machine(load_at_start, arguments.threads)
    report = {"command": command, "machine": machine, "rows": [asdict(row) for row in rows]}
    (RESULTS / f"{arguments.output}.json").write_text(json.dumps(report, indent=2) + "\n")
    table = as_markdown(command, machine, rows)
    (RESULTS / f"{arguments.output}.md").write_text(table)
    print(table)


def as_markdown(command: str, machine: dict[str, str], rows: list[Row]) -> str:
    """Write the table for people."""
    return "\n".join(
        [
            "# Dense convolutions on a CPU",
            "",
            f"`{command}`",
            "",
            *(f"- {fact}: {value}" for fact, value in machine.items()),
            "",
            "Medians of turns, weights and maps in the caches as far as they fit. Ratio: how many",
            "times as fast ours is. Of GEMM: our rate as a share of that of a",
            f"{GEMM_SIDE}x{GEMM_SIDE}x{GEMM_SIDE} product of the same dtype in the same turns.",
            "",
            "| layer | images | dtype | oneDNN us | ours us | ratio | of GEMM |",
            "| --- | --: | --- | --: | --: | --: | --: |",
            *(
                f"| {row.layer.place} | {row.layer.batch} | {row.dtype} | {row.onednn_us:.0f} "
                f"| {row.ours_us:.0f} | {row.ratio:.2f} "
                f"| {row.gflop / row.ours_us * 1e6 / row.product_gflops:.0%} |"
                for row in rows
            ),
            "",
        ]
    )


if __name__ == "__main__":
    main()
