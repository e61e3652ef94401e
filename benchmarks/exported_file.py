"""One exported file in its runtime: the process of a contestant in ``benchmarks.export``.

For each line on the standard input it makes a pass, and writes the seconds that it took and the
most memory that it held until then, in bytes. ONNX Runtime's process does not load PyTorch.

    python benchmarks/exported_file.py overlock_t.onnx 8x3x224x224 2
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pass = Callable[[NDArray[np.float32]], object]


def main() -> None:
    path, shape, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    run = (in_onnxruntime if path.suffix == ".onnx" else in_torch)(path, threads)
    images = np.random.default_rng(0).standard_normal(tuple(map(int, shape.split("x"))), np.float32)
    pass_on_demand(lambda: run(images))


def pass_on_demand(run: Callable[[], object]) -> None:
    """Make a pass for every line on the standard input; the other end is ``TimedProgram``."""
    for _ in sys.stdin:
        started = time.perf_counter()
        run()
        print(time.perf_counter() - started, peak_bytes(), flush=True)


def in_onnxruntime(path: Path, threads: int) -> Pass:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})


def in_torch(path: Path, threads: int) -> Pass:
    import torch

    torch.set_num_threads(threads)
    network = torch.export.load(path).module()

    def run(images: NDArray[np.float32]) -> object:
        with torch.inference_mode():
            return network(torch.from_numpy(images))

    return run


def peak_bytes() -> int:
    """Return the most resident memory of this program; that of its parent does not count."""
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
