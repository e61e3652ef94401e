from __future__ import annotations

import os
import tempfile
from pathlib import Path

# prometheus-client looks at it once, when it is imported first.
os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="overlock-test-metrics-")

# Triton looks at it when it is imported. Without a GPU its interpreter runs the kernels.
if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"
