from __future__ import annotations

import subprocess
import sys


def test_a_worker_imports_grpc_only_to_serve_it() -> None:
    script = (
        "import sys, service.web.process, service.processes.supervisor;"
        "assert not {'grpc', 'google.protobuf'} & {*sys.modules}, 'grpc is imported'"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
