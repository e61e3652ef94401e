"""Time embeddings and class maps against a classification, as an engine runs them.

The three passes share one network, compiled and recorded on a GPU, and take turns; each waits for
its results on the host. An explanation is of each image's best class.

    python -m benchmarks.passes --model overlock_t --batches 1 8
    python -m benchmarks.passes --device cuda --dtype bfloat16 --batches 1 8 64
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import cast

import numpy as np
import torch

from model.heads.classifier import ImageClassifier
from model.inference.dtype_selection import DTYPES
from model.inference.passes import BEST, EmbeddingNetwork, ExplainingNetwork
from model.inference.predictor import Predictor
from model.zoo import create_model

SIDE_PIXELS = 224
PASSES = ("classify", "embed", "explain")


def passes_of(
    model: str, device: torch.device, dtype: torch.dtype, batches: list[int]
) -> Callable[[int], dict[str, Callable[[], object]]]:
    """Prepare the passes; return a function that gives each of a batch size, with its name."""
    network = cast("ImageClassifier", create_model(model, weights="random"))
    compiler = "inductor" if device.type == "cuda" else None
    plain = Predictor(network, device, dtype, compiler=compiler)
    # The kernels' choices are those of the first.
    embedding, explaining = (
        Predictor(each, device, dtype, plain.staging, compiler=compiler)
        for each in (EmbeddingNetwork(network), ExplainingNetwork(network))
    )
    for predictor in (plain, embedding, explaining):
        for count in batches:
            predictor.prepare((count, SIDE_PIXELS, SIDE_PIXELS))

    def of_batch(count: int) -> dict[str, Callable[[], object]]:
        generator = np.random.default_rng(count)
        images = list(generator.integers(0, 256, (count, SIDE_PIXELS, SIDE_PIXELS, 3), np.uint8))
        shape, wanted = (count, SIDE_PIXELS, SIDE_PIXELS), [[BEST]] * count
        return {
            "classify": lambda: plain.launch(images, shape)(),
            "embed": lambda: embedding.launch(images, shape)(),
            "explain": lambda: explaining.launch_explanations(images, shape, wanted)(),
        }

    return of_batch


def milliseconds(passes: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Time the passes in turns, after one of each to warm up."""
    found: dict[str, list[float]] = {name: [] for name in passes}
    for turn in range(repeats + 1):
        for name, run in passes.items():
            started = time.perf_counter()
            run()
            if turn:
                found[name].append(1000 * (time.perf_counter() - started))
    return found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="overlock_t")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    device = torch.device(options.device)
    of_batch = passes_of(options.model, device, DTYPES[options.dtype], options.batches)
    lines = [
        f"Medians of {options.repeats} turns, {options.model} at {SIDE_PIXELS}x{SIDE_PIXELS}, "
        f"{options.dtype}, {device.type}.",
        "",
        "| images | classify | embed | explain |",
        "| --: | --: | --: | --: |",
    ]
    for count in options.batches:
        found = milliseconds(of_batch(count), options.repeats)
        base = statistics.median(found["classify"])
        cells = [f"{base:.2f} ms"]
        for name in PASSES[1:]:
            # Of the same turn, so that other work on the machine hits both.
            ratios = [a / b for a, b in zip(found[name], found["classify"], strict=True)]
            median = statistics.median(found[name])
            cells.append(f"{median:.2f} ms ({statistics.median(ratios):.3f}x)")
        lines.append(f"| {count} | {' | '.join(cells)} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
