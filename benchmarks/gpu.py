"""Check and measure the kernels and networks on a CUDA device, in one command within minutes.

    python benchmarks/gpu.py                       # everything, 8 minutes at most
    python benchmarks/gpu.py --only classifiers    # some sections, by name
    python benchmarks/gpu.py --device cpu --quick  # the same program on tiny problems, to try it

Needs torch, triton, numpy and pillow; timm and torchvision are compared with where they are
installed, and the service is started where its packages are. Writes ``benchmarks/results/gpu.json``
and ``gpu.md`` after every row, so that measured rows stay if the time is up or the machine fails.
"""

import sys
from pathlib import Path

# A plain checkout is not installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.on_gpu.program import main

if __name__ == "__main__":
    main()
