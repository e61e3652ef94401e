"""A client that knows nothing of the protocol but what reflection says, and what it got, as JSON.

``by_reflection.py GRPC_ADDRESS FOLDER``; FOLDER has ``*.png``.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

from grpc_requests import Client

ADDRESS, FOLDER = sys.argv[1], Path(sys.argv[2])


def main() -> dict[str, Any]:
    """Ask for the service's methods, and use some."""
    client = Client(ADDRESS)
    service = "inference.GRPCInferenceService"
    files = [path.read_bytes() for path in sorted(FOLDER.glob("*.png"))]
    asked = {
        "model_name": "demo",
        "inputs": [
            {
                "name": "image",
                "datatype": "BYTES",
                "shape": [len(files)],
                "contents": {"bytes_contents": [base64.b64encode(file).decode() for file in files]},
            }
        ],
        "outputs": [{"name": "class_ids"}],
    }
    answer = client.request(service, "ModelInfer", asked)
    (raw,) = answer["raw_output_contents"]
    class_ids = memoryview(base64.b64decode(raw)).cast("q").tolist()
    shape = [int(side) for side in answer["outputs"][0]["shape"]]
    return {
        "services": sorted(client.service_names),
        "methods": sorted(client.service(service).method_names),
        "live": client.request(service, "ServerLive", {}),
        "model": client.request(service, "ModelMetadata", {"name": "demo"}),
        "class_ids": [class_ids[row * shape[1] :][: shape[1]] for row in range(shape[0])],
        "health": client.request("grpc.health.v1.Health", "Check", {}),
    }


print(json.dumps(main()))
