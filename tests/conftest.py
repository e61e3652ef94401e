from __future__ import annotations

import os
import tempfile

# prometheus-client looks at it once, when it is imported first.
os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="overlock-test-metrics-")
