"""Time exported files and measure their memory: forms of ContMix that every runtime has.

Files are made of one network in every form. Then each is loaded by a process of its own, and these
take turns, so that other work on the machine hits all of them alike; their medians are compared.
Weights are random; neither time nor memory depends on them.

    python -m benchmarks.export --models overlock_t --threads 2
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from benchmarks.contestants import Contestant, Racer, Task
from benchmarks.machine import describe_machine
from benchmarks.timed_program import TimedProgram
from model.backbone.context_mixing import ContextMixing, FoldedContextMixing
from model.export.comparison import expected_logits, largest_difference
from model.export.onnx_file import OnnxFile, write_onnx
from model.export.program import traced
from model.export.torch_file import TorchFile, write_torch
from model.kernels.context_mixing_reference import window_starts
from model.lowering.folding import Foldable, merge_branches
from model.lowering.portable import make_portable
from model.zoo import create_model

RESULTS = Path(__file__).parent / "results"
RUNNER = Path(__file__).parent / "exported_file.py"

WORKLOADS = {
    "overlock_t": ((1, 224, 224), (8, 224, 224)),
    "upernet_overlock_xt": ((1, 512, 704),),
}
"""Batch, height and width of the inputs of each model; its files are made for one size."""

FORMS = ("unfolded", "reference", "gathers", "rows", "rows in torch.export", "served")

EXPLANATION = """\
Random weights, float32. Milliseconds are the median of the turns that all forms of one input took
one after the other, each in a process of its own, after one pass to warm up. Peak: the most memory
that the process held, the weights and the runtime included.

- unfolded: `fused=False` in ONNX Runtime; norms, branches and ContMix as they were trained.
- reference: norms and branches folded, ContMix as it was trained; every pixel has a copy of its
  window and all of its logits.
- gathers: all folded; every pixel's window is gathered by a table of indexes.
- rows: all folded; a pixel's weights are spread over the rows that its window lies in
  (`model/kernels/context_mixing_rows.py`). This is what `overlock export onnx` writes.
- rows in torch.export: the same graph in PyTorch, as `overlock export torch` writes it.
- served: what an engine of the service runs, with its own kernels.

All processes have an engine's environment."""


@dataclass(frozen=True)
class Row:
    """Time and memory of one form.

    Attributes:
        model: a name of ``model.zoo``.
        input: "BxHxW".
        form: one of ``FORMS``.
        nodes: of the ONNX graph; 0 for other files.
        turns: number of passes that the median is of.
        median_seconds: of one pass.
        speedup: over the unfolded form.
        peak_bytes: most resident memory of the process.
        largest_difference: of a logit, from the folded network; 0 for the served form.
    """

    model: str
    input: str
    form: str
    nodes: int
    turns: int
    median_seconds: float
    speedup: float
    peak_bytes: int
    largest_difference: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Time exported files on the CPU.")
    parser.add_argument("--models", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    load_at_start = os.getloadavg()
    torch.set_num_threads(arguments.threads)
    rows = [
        row
        for name in arguments.models
        for row in measure(name, arguments.repeats, arguments.threads)
    ]
    command = shlex.join(["python", "-m", "benchmarks.export", *sys.argv[1:]])
    machine = describe_machine(load_at_start, arguments.threads)
    report = {"command": command, "machine": machine, "rows": [asdict(row) for row in rows]}
    (RESULTS / "export-cpu.json").write_text(json.dumps(report, indent=2) + "\n")
    (RESULTS / "export-cpu.md").write_text(as_markdown(command, machine, rows))
    print(as_markdown(command, machine, rows))


def measure(name: str, repeats: int, threads: int) -> list[Row]:
    """Make the files of one network and time them at each of its inputs."""
    rows: list[Row] = []
    _, *size = WORKLOADS[name][0]
    with tempfile.TemporaryDirectory() as folder:
        files = {form: files_of(name, form, (size[0], size[1]), Path(folder)) for form in FORMS[:5]}
        for shape in WORKLOADS[name]:
            rows += timed(name, shape, files, repeats, threads)
    return rows


@dataclass(frozen=True)
class File:
    """A file of one form."""

    path: Path
    nodes: int
    largest_difference: float


def files_of(name: str, form: str, size: tuple[int, int], folder: Path) -> File:
    """Write a file, and compare it with the folded network."""
    started = time.perf_counter()
    images = np.random.default_rng(0).standard_normal((2, 3, *size), np.float32)
    expected = expected_logits(create_model(name, weights="random"), images)
    network: nn.Module = create_model(
        name, weights="random", fused=form not in ("unfolded", "reference")
    )
    program = traced(FORMS_OF[form](network), 3, size)
    in_torch = form.endswith("torch.export")
    path = folder / f"{form.replace(' ', '-')}{'.pt2' if in_torch else '.onnx'}"
    if in_torch:
        write_torch(program, {}, path)
    else:
        write_onnx(program, {}, path, producer_version="0")
    file = TorchFile(path) if in_torch else OnnxFile(path)
    difference = largest_difference(file, images, expected, batches=(1, 2))
    nodes = 0 if in_torch else len(onnx.load(path).graph.node)
    seconds = time.perf_counter() - started
    print(f"{name}, {form}: {difference:.0e}, {seconds:.0f} s", file=sys.stderr)
    return File(path, nodes, difference)


def timed(
    name: str, shape: tuple[int, int, int], files: dict[str, File], repeats: int, threads: int
) -> list[Row]:
    """Let all forms take turns at one input."""
    batch, height, width = shape
    size = f"{batch}x3x{height}x{width}"
    runners = {
        form: TimedProgram([sys.executable, RUNNER, file.path, size, str(threads)])
        for form, file in files.items()
    }
    seconds: dict[str, list[float]] = {form: [] for form in FORMS}
    task = Task(name, "whole", batch, height, width)
    with contextlib.closing(
        Racer(Contestant("served", "float32"), task, threads, count=False)
    ) as served:
        peak = served.first_pass().peak_bytes
        for runner in runners.values():
            runner.run()
        for _ in range(repeats):
            for form in FORMS:
                racer = runners.get(form, served)
                seconds[form].append(racer.run())
    medians = {form: statistics.median(times) for form, times in seconds.items()}
    rows = [
        Row(
            model=name,
            input="x".join(map(str, shape)),
            form=form,
            nodes=files[form].nodes if form in files else 0,
            turns=repeats,
            median_seconds=medians[form],
            speedup=medians["unfolded"] / medians[form],
            peak_bytes=runners[form].peak_bytes if form in runners else peak,
            largest_difference=files[form].largest_difference if form in files else 0.0,
        )
        for form in FORMS
    ]
    for runner in runners.values():
        runner.close()
    return rows


def with_norms_folded(network: nn.Module) -> nn.Module:
    """Fold all but ContMix."""
    merge_branches(network)
    return _fold_below(network)


def _fold_below(network: nn.Module) -> nn.Module:
    for name, part in network.named_children():
        inner = _fold_below(part)
        if isinstance(inner, Foldable) and not isinstance(inner, ContextMixing):
            setattr(network, name, inner.folded())
    return network


def with_gathers(network: nn.Module) -> nn.Module:
    """Gather every pixel's window by a table."""
    for part in network.modules():
        if isinstance(part, FoldedContextMixing):
            part.aggregate = context_mixing_gathers
    return network


def context_mixing_gathers(
    values: Tensor, queries: Tensor, virtual_keys: Tensor, small_bias: Tensor, large_bias: Tensor
) -> Tensor:
    """Aggregate as ``context_mixing`` does, with a copy of its window for every pixel."""
    small_keys, large_keys = virtual_keys.split([small_bias.shape[-1], large_bias.shape[-1]], dim=2)
    small_values, large_values = values.chunk(2, dim=1)
    small = _gathered(small_values, queries, small_keys, small_bias)
    large = _gathered(large_values, queries, large_keys, large_bias)
    return torch.cat((small, large), dim=1)


def _gathered(values: Tensor, queries: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
    groups, kernel_size = bias.shape[:2]
    height, width = values.shape[2:]
    rows, columns = (window_starts(side, kernel_size, values.device) for side in (height, width))
    bias = bias.index_select(1, torch.arange(height) - rows)
    bias = bias.index_select(2, torch.arange(width) - columns).flatten(1, 2)  # (G, H*W, K*K)
    pixels = queries.unflatten(1, (groups, -1)).flatten(3).transpose(2, 3)  # (B, G, H*W, D)
    weights = (pixels @ keys.transpose(2, 3) + bias).softmax(dim=-1)  # (B, G, H*W, K*K)
    taps = torch.arange(kernel_size)
    starts = rows[:, None, None, None] * width + columns[:, None, None]
    table = (starts + taps[:, None] * width + taps).flatten()  # H*W*K*K
    flat = values.unflatten(1, (groups, -1)).flatten(3).transpose(2, 3)  # (B, G, H*W, C')
    windows = flat.index_select(2, table).unflatten(2, (height * width, -1))
    mixed = (weights.unsqueeze(3) @ windows).squeeze(3)  # (B, G, H*W, C')
    result: Tensor = mixed.transpose(2, 3).unflatten(3, (height, width)).flatten(1, 2)
    return result


FORMS_OF: dict[str, Callable[[nn.Module], nn.Module]] = {
    "unfolded": lambda network: network.requires_grad_(requires_grad=False),
    "reference": lambda network: with_norms_folded(network).requires_grad_(requires_grad=False),
    "gathers": with_gathers,
    "rows": make_portable,
    "rows in torch.export": make_portable,
}


def as_markdown(command: str, machine: dict[str, str], rows: list[Row]) -> str:
    """Write the table for people."""
    lines = [
        "# Exported files on the CPU",
        "",
        f"`{command}`",
        "",
        *(f"- {fact}: {value}" for fact, value in machine.items()),
        "",
        EXPLANATION,
        "",
        "| model | input | form | nodes | turns | ms | speed-up | peak MB | difference |",
        "| --- | --- | --- | --: | --: | --: | --: | --: | --: |",
    ]
    lines += [
        f"| {row.model} | {row.input} | {row.form} | {row.nodes or ''} | {row.turns} "
        f"| {row.median_seconds * 1e3:.0f} | {row.speedup:.1f} | {row.peak_bytes / 1e6:.0f} "
        f"| {f'{row.largest_difference:.0e}' if row.largest_difference else ''} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
