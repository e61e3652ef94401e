"""Checks of the pods' resources; each yields its complaints."""

from __future__ import annotations

import re
from collections.abc import Iterator

from support.manifest_pod_checks import settings_of
from support.manifests import Manifests

HTTP_WORKER_BYTES = 150 * 2**20
"""Without what it holds for requests."""

ENGINE_BYTES = 2 * 2**30
TAG = re.compile(r":\d+\.\d+\.\d+-(cpu|cuda)$")
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def size(quantity: str) -> int:
    """Return a quantity like 4Gi in bytes."""
    number, unit = quantity[:-2], quantity[-2:]
    return int(number) * UNITS[unit]


def memory(manifests: Manifests) -> Iterator[str]:
    """The limit has room for what the processes may hold, and is reserved."""
    resources = manifests.service["resources"]
    if resources["requests"]["memory"] != resources["limits"]["memory"]:
        yield "memory that is not requested may be another pod's"
    chosen = settings_of(manifests)
    in_memory = sum(
        size(volume["emptyDir"]["sizeLimit"])
        for volume in manifests.pod["volumes"]
        if (volume.get("emptyDir") or {}).get("medium") == "Memory"
    )
    workers = chosen.http_workers * (HTTP_WORKER_BYTES + chosen.max_queue_bytes)
    if size(resources["limits"]["memory"]) < workers + in_memory + ENGINE_BYTES:
        yield f"{resources['limits']['memory']} are less than the processes may hold"


def threads(manifests: Manifests) -> Iterator[str]:
    """The network takes as many threads as the pod has processors, which are not throttled."""
    resources = manifests.service["resources"]
    if "cpu" in resources["limits"]:
        yield "a limit on processor time throttles decoding and the network alike"
    variables = {each["name"]: each for each in manifests.service["env"]}
    source = variables.get("OMP_NUM_THREADS", {}).get("valueFrom", {})
    if source.get("resourceFieldRef") != {"resource": "requests.cpu", "divisor": "1"}:
        yield "OMP_NUM_THREADS is not what the pod requests"


def devices(manifests: Manifests) -> Iterator[str]:
    """GPUs are limited, as many as there are engines, and pods without them name none."""
    named = manifests.variables.get("OVERLOCK_DEVICES", "auto")
    gpus = manifests.service["resources"]["limits"].get("nvidia.com/gpu", "0")
    if named == "auto":
        yield "OVERLOCK_DEVICES is left to chance"
    elif named == "cuda":
        if not int(gpus):
            yield "no GPU for cuda, which is all of them"
    elif int(gpus) != len(re.findall(r"cuda:\d+", named)):
        yield f"{gpus} GPUs for {named}"
    image = manifests.service["image"]
    if not image.endswith("cuda" if named.startswith("cuda") else "cpu"):
        yield f"{image} is not the image for {named}"


def images(manifests: Manifests) -> Iterator[str]:
    """All containers run one image, whose tag is a version's and so does not move."""
    found = {container["image"] for container in manifests.containers}
    if len(found) != 1:
        yield f"several images: {sorted(found)}"
    for image in found:
        if not TAG.search(image):
            yield f"{image} has no version"
