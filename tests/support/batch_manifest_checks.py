"""Checks of the manifests for ``overlock batch``; each yields its complaints."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path

from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES
from botocore.credentials import EnvProvider

import support.manifest_cluster_checks as cluster
import support.manifest_pod_checks as pods
import support.manifest_resource_checks as resources
from service.commands.batch.actors import THREADS
from service.commands.batch.buckets import is_bucket
from service.commands.batch.pipeline import STORE_SHARE, WINDOW_IMAGES
from service.commands.batch.plan import shard_of
from service.commands.batch.ray_session import VARIABLES
from service.commands.console.exits import FAILED, REFUSED, RefusedError
from service.commands.predict.conversion import request_of, settings_of
from service.settings import PREFIX, Settings, SettingsError, load_settings
from support.batch_manifests import INDEX, BatchManifests
from support.locks import locked
from support.manifest_pod_checks import WRITTEN, mounts
from support.manifest_resource_checks import size
from support.manifests import Object

Check = Callable[[BatchManifests], Iterator[str]]

NAME_BYTES = 512
"""Of an image's name in Ray's object store (docs/batch.md#bounds)."""

GPU = "nvidia.com/gpu"
DASHBOARD_PORT = 8265
OWN = {
    "podSelector": {
        "matchLabels": {
            "app.kubernetes.io/name": "overlock-batch",
            "app.kubernetes.io/instance": "overlock-batch",
        }
    }
}
SECRETS = {EnvProvider.ACCESS_KEY, EnvProvider.SECRET_KEY}
KNOWN = {
    *SECRETS,
    *(PREFIX + name.upper() for name in Settings.model_fields),
    BOTOCORE_DEFAUT_SESSION_VARIABLES["region"][1],
    THREADS,
    *VARIABLES,
}
"""Variables that somebody reads."""


@functools.cache
def ray_options() -> set[str]:
    """Return the options of Ray's command line, without importing Ray."""
    path = Path(str(distribution("ray").locate_file("ray/scripts/scripts.py")))
    return {*re.findall(r'"--([\w-]+)",', path.read_text("utf-8"))}


def values_of(container: Object) -> dict[str, str]:
    """Return the variables of a container that are stated as they are."""
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}


def command(batch: BatchManifests) -> Iterator[str]:
    """The command takes the words; it reads and writes buckets, with a precision that is stated."""
    try:
        arguments = batch.arguments
        request_of(arguments)
        settings_of(arguments)
    except (ValueError, RefusedError) as error:
        yield str(error)
        return
    if not all(is_bucket(place) for place in [*arguments.sources, arguments.output]):
        yield "pods do not share a disk"
    stated = [arguments.dtype, values_of(batch.containers[0]).get(f"{PREFIX}DTYPE")]
    if not {*stated} - {None, "auto"}:
        yield "each share chooses a precision of its own"
    for container in batch.containers:
        if "command" in container or (batch.is_ray and "args" in container):
            yield f"{container['name']} goes around the image's tini, or KubeRay's command"
    if batch.is_ray and (arguments.ray != "auto" or arguments.shard is not None):
        yield "the command does not run on the whole cluster"
    if batch.is_ray and "$" in batch.job["entrypoint"]:
        yield "the submitter's shell, not the head's, fills variables"


def shares(batch: BatchManifests) -> Iterator[str]:
    """Each pod of an Indexed Job does its share, and all shares together are everything."""
    if batch.is_ray:
        return
    count = batch.job["completions"]
    if f"--shard=$({INDEX})/{count}" not in batch.containers[0]["args"]:
        yield f"the shares are not {count}"
    if batch.arguments.ray is not None:
        yield "a pod waits for a cluster"
    if batch.job["completionMode"] != "Indexed" or batch.job["parallelism"] > count:
        yield "pods have no share"
    shard_of(f"0/{count}")


def variables(batch: BatchManifests) -> Iterator[str]:
    """Every variable is known, the service accepts its settings, and secrets are in a Secret."""
    for template, container in zip(batch.templates, batch.containers, strict=True):
        yield from (
            f"nobody reads {each['name']}" for each in container["env"] if each["name"] not in KNOWN
        )
        values = values_of(container)
        given = {
            name.removeprefix(PREFIX).lower(): value
            for name, value in values.items()
            if name.startswith(PREFIX)
        }
        try:
            load_settings(given, environment=values)
        except SettingsError as error:
            yield str(error)
        if template["spec"].get("enableServiceLinks") is not False:
            yield "Kubernetes sets variables that stop the start"
        if container["name"] == "ray-job-submitter":
            continue
        for name in SECRETS:
            (found,) = [each for each in container["env"] if each["name"] == name]
            if found.get("valueFrom", {}).get("secretKeyRef", {}).get("key") != name:
                yield f"{name} does not come from a Secret"


def failures(batch: BatchManifests) -> Iterator[str]:
    """What may help is tried again, what cannot is not, and a lost node is nobody's fault."""
    if batch.is_ray:
        if batch.job["backoffLimit"] < 1 or batch.job.get("shutdownAfterJobFinishes") is not True:
            yield "a run is not gone on with, or leaves its cluster behind"
        return
    if not any(word.startswith("--max-failed=") for word in batch.containers[0]["args"]):
        yield "a share that is done is tried again for an image that cannot be read"
    if batch.job["backoffLimitPerIndex"] < 1 or batch.job.get("podReplacementPolicy") != "Failed":
        yield "a share is not gone on with, or by two pods"
    first, *others = batch.job["podFailurePolicy"]["rules"]
    if first != {
        "action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }:
        yield "a pod whose node is drained is taken for a failure"
    actions: dict[int, str] = {}
    for rule in others:
        codes = rule["onExitCodes"]
        if (codes["containerName"], codes["operator"]) != (batch.containers[0]["name"], "In"):
            yield f"no container is meant by {codes}"
        actions = dict.fromkeys(codes["values"], rule["action"]) | actions
    if actions != {REFUSED: "FailIndex", FAILED: "Count"}:
        yield f"exit codes lead to {actions}"
    if batch.templates[0]["spec"]["restartPolicy"] != "Never":
        yield "the kubelet restarts what the policy is to judge"


def ray(batch: BatchManifests) -> Iterator[str]:
    """The cluster is the image's Ray, has a key, and keeps its head free of the work."""
    if not batch.is_ray:
        return
    if locked("extras.lock")["ray"] != batch.cluster["rayVersion"]:
        yield f"the image has another Ray than {batch.cluster['rayVersion']}"
    if batch.cluster.get("authOptions") != {"mode": "token"}:
        yield "anyone in reach runs what they like"
    for group in batch.groups:
        named = group["rayStartParams"]
        yield from (f"ray start has no --{name}" for name in named if name not in ray_options())
    head, *workers = batch.groups
    if head["rayStartParams"].get("num-cpus") != "0":
        yield "decoders on the head take the command's memory"
    if head["rayStartParams"].get("dashboard-host") != "0.0.0.0":
        yield "the operator cannot submit"
    (port,) = [
        each["containerPort"]
        for each in batch.containers[0]["ports"]
        if each["name"] == "dashboard"
    ]
    if port != DASHBOARD_PORT:
        yield f"the dashboard is sought at {port}"
    for group in workers:
        if not 1 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]:
            yield f"{group['groupName']}: no such number of machines"


def security(batch: BatchManifests) -> Iterator[str]:
    """Nothing runs as root, gains anything, writes to its image, or has a token."""
    for deployed in batch.as_deployed():
        yield from pods.security(deployed)


def volumes(batch: BatchManifests) -> Iterator[str]:
    """Mounts have volumes, writable where the program and Ray write."""
    for template, container in zip(batch.templates, batch.containers, strict=True):
        found, there = mounts(container), {each["name"] for each in template["spec"]["volumes"]}
        if there != {mount["name"] for mount in found.values()}:
            yield "a volume or a mount has no other end"
        needed: tuple[str, ...] = ("/tmp",)
        if template in batch.computing:
            needed = (*WRITTEN, values_of(container)[f"{PREFIX}CACHE_DIR"])
        for path in needed:
            if path not in found or found[path].get("readOnly"):
                yield f"{path} cannot be written to"


def memory(batch: BatchManifests) -> Iterator[str]:
    """Memory is reserved, and /dev/shm has room for Ray's object store and a part of it."""
    for number, template in enumerate(batch.computing):
        container = batch.containers[number]
        limit = size(container["resources"]["limits"]["memory"])
        if size(container["resources"]["requests"]["memory"]) != limit:
            yield "memory that is not requested may be another pod's"
        name = mounts(container)["/dev/shm"]["name"]
        (volume,) = [each for each in template["spec"]["volumes"] if each["name"] == name]
        if volume["emptyDir"].get("medium") != "Memory":
            yield "Ray's object store is on a disk"
        store = STORE_SHARE * limit + NAME_BYTES * WINDOW_IMAGES
        if batch.is_ray:
            store = int(batch.groups[number]["rayStartParams"]["object-store-memory"])
        if not store <= size(volume["emptyDir"]["sizeLimit"]) <= 0.7 * limit:
            yield f"{volume['emptyDir']['sizeLimit']} for an object store of {store:g} bytes"


def processors(batch: BatchManifests) -> Iterator[str]:
    """As many processes and threads as a pod has processors, which are not throttled."""
    for container in batch.containers:
        if "cpu" in container["resources"]["limits"]:
            yield "a limit on processor time throttles decoding and the network alike"
    if batch.is_ray:
        return
    requests = batch.containers[0]["resources"]["requests"]
    (threads,) = [each for each in batch.containers[0]["env"] if each["name"] == THREADS]
    source = threads.get("valueFrom", {}).get("resourceFieldRef")
    if source != {"resource": "requests.cpu", "divisor": "1"}:
        yield f"{THREADS} is not what the pod requests"
    decoders = batch.arguments.decoders
    if decoders is None or not decoders < int(requests["cpu"]):
        yield f"{decoders} decoders for {requests['cpu']} processors"


def devices(batch: BatchManifests) -> Iterator[str]:
    """GPUs are limited, tolerated, and those that the command names."""
    gpus = []
    for number, template in enumerate(batch.computing):
        container = batch.containers[number]
        gpus.append(int(container["resources"]["limits"].get(GPU, 0)))
        if gpus[-1] and GPU not in {
            each["key"] for each in template["spec"].get("tolerations", [])
        }:
            yield "nodes with GPUs turn the pod away"
        if not batch.is_ray:
            named = values_of(container).get(f"{PREFIX}DEVICES", "auto")
            if named == "auto" or gpus[-1] != len(re.findall(r"cuda:\d+", named)):
                yield f"{gpus[-1]} GPUs for {named}"
        if not container["image"].endswith("cuda" if batch.is_ray or gpus[-1] else "cpu"):
            yield f"{container['image']} is not the image for {gpus[-1]} GPUs"
    if batch.is_ray and not any(gpus[1:]):
        yield "no machine has a GPU"


def labels(batch: BatchManifests) -> Iterator[str]:
    """Every policy selects all pods."""
    for policy in batch.all("NetworkPolicy"):
        selector = policy["spec"]["podSelector"]["matchLabels"]
        for template in batch.templates:
            if not selector or not selector.items() <= template["metadata"]["labels"].items():
                yield f"{policy['metadata']['name']} selects {selector}"


def network(batch: BatchManifests) -> Iterator[str]:
    """Pods reach the internet by HTTPS, those of a Ray cluster each other too; nobody comes in."""
    alone, *of_ray = [each["spec"] for each in batch.all("NetworkPolicy")]
    if {*alone["policyTypes"]} != {"Ingress", "Egress"} or alone.get("ingress"):
        yield "somebody may come in"
    yield from cluster.too_far(alone)
    if len(of_ray) != batch.is_ray:
        yield f"{len(of_ray)} more policies"
    for policy in of_ray:
        within, operator = policy["ingress"]
        if within != {"from": [OWN]} or policy["egress"] != [{"to": [OWN]}]:
            yield "machines of the cluster do not reach each other, or more than these"
        (source,) = operator["from"]
        if not source.get("namespaceSelector", {}).get("matchLabels") or operator["ports"] != [
            {"port": DASHBOARD_PORT, "protocol": "TCP"}
        ]:
            yield "others than the operator may come in"


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        *(command, shares, variables, failures, ray, security, volumes, memory, processors),
        *(devices, resources.images, labels, network, cluster.namespaces),
    )
}
"""All checks of what the manifests for batch work must keep, by name."""
