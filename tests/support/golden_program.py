r"""XT's logits with other instructions than this processor's, in a process of its own.

    qemu-x86_64 -cpu Haswell python -m support.golden_program \
        kernels.so xt.pth images.npy logits.npy float32
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from model.kernels.cpu import library
from model.lowering.cpu import lower_for_cpu
from model.zoo import create_model
from support.native_kernels import use


def main() -> None:
    """Compute as an engine does; print PyTorch's instructions."""
    kernels, checkpoint, images, target = map(Path, sys.argv[1:5])
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[sys.argv[5]]
    torch.set_num_threads(1)
    # An emulator shows the real processor's /proc/cpuinfo, by which a build would be chosen.
    use(library._load(kernels))
    print(torch.backends.cpu.get_cpu_capability())  # noqa: T201 - the test reads it
    network = lower_for_cpu(create_model("overlock_xt", weights=checkpoint), dtype)
    with torch.inference_mode():
        logits = network(torch.from_numpy(np.load(images)).to(dtype))
    np.save(target, logits.float().numpy())


if __name__ == "__main__":
    main()
