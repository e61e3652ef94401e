"""Check and measure the kernels and networks on a CUDA device, in two runs of five minutes.

    python benchmarks/gpu.py                       # run A, then run B
    python benchmarks/gpu.py --run A               # A decides; B is nice to know
    python benchmarks/gpu.py --only smoke served   # some sections, by name
    python benchmarks/gpu.py --device cpu --quick  # the same program on tiny problems, to try it

Needs torch, triton, numpy and pillow; the service is started where its packages are. Each run ends
within 330 seconds, and each section within its budget. The results are ``gpu-a`` and ``gpu-b``,
``.json`` and ``.md``, in the folder of ``--output``, written after every row; the compiled code is
packed beside them.

Two things save minutes on the GPU machine if they are carried there, to ``benchmarks/carried``: the
CPU's outputs, made by ``python -m benchmarks.on_gpu.references``, and the packed caches of an
earlier run, ``caches.tar.gz.0`` and so on.
"""

import sys
from pathlib import Path

# A plain checkout is not installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.on_gpu.program import main

if __name__ == "__main__":
    main()
