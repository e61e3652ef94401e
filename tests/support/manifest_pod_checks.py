"""Checks of the pods; each yields its complaints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from model.config import TRAINED_TASKS
from service.processes.generation import ENGINE_GRACE_SECONDS
from service.settings import PREFIX, Settings, SettingsError, load_settings
from service.web.routes import health
from support.manifests import Manifests, Object

UID = 10001
"""User id of the image's user."""

PROBES = {getattr(route, "path", "") for route in health.router.routes}
COLD_COMPILE_SECONDS = 277.0
"""The longest compilation that was measured, of OverLoCK-T on two cores (docs/adr/0009)."""

MARGIN_SECONDS = 5.0
CLUSTER_AUTOSCALER_SECONDS = 600
"""Its --max-graceful-termination-sec where nobody sets another."""

WRITTEN = ("/tmp", "/dev/shm")
"""Folders that the service writes to, beside its cache."""


def settings_of(manifests: Manifests) -> Settings:
    """Return what the service would make of the ConfigMap.

    Raises:
        SettingsError: if it would refuse it.
    """
    values = manifests.variables
    given = {name.removeprefix(PREFIX).lower(): value for name, value in values.items()}
    return load_settings(given, environment=values)


def settings(manifests: Manifests) -> Iterator[str]:
    """Every variable is a setting, and the service accepts the values."""
    try:
        settings_of(manifests)
    except SettingsError as error:
        yield str(error)
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for container in manifests.containers:
        for variable in container.get("env", []):
            if variable["name"].startswith(PREFIX) and variable["name"] not in known:
                yield f"{variable['name']} is no setting"
        name = manifests.one("ConfigMap")["metadata"]["name"]
        if container.get("envFrom") != [{"configMapRef": {"name": name}}]:
            yield f"{container['name']} does not read the ConfigMap {name}"
    if manifests.pod.get("enableServiceLinks") is not False:
        yield "Kubernetes sets OVERLOCK_PORT itself, and variables that stop the start"


def probes(manifests: Manifests) -> Iterator[str]:
    """Probes use the service's routes, and wait long enough for a start."""
    service = manifests.service
    expected = {"startupProbe": "/readyz", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for name, path in expected.items():
        asked = service[name]["httpGet"]
        if asked["path"] not in PROBES:
            yield f"{name}: the service has no {asked['path']}"
        if asked["path"] != path:
            yield f"{name} asks {asked['path']}, not {path}"
        if service[name]["failureThreshold"] < 2:
            yield f"{name}: one lost packet is enough"
    if startup_seconds(manifests) < 2 * COLD_COMPILE_SECONDS:
        yield "the startup probe is less patient than two cold compilations"


def startup_seconds(manifests: Manifests) -> float:
    """Return how long a start may take."""
    probe = manifests.service["startupProbe"]
    return float(probe["periodSeconds"] * probe["failureThreshold"])


def commands(manifests: Manifests) -> Iterator[str]:
    """Containers run what they are for, with the image's own process 1."""
    if manifests.service["args"] != ["serve"]:
        yield "the service does not serve"
    for container in manifests.containers:
        if "command" in container:
            yield f"{container['name']} goes around the image's tini"
    for container in manifests.pod["initContainers"]:
        if container["args"][0] != "download":
            yield f"{container['name']} does something else than its like"


def weights(manifests: Manifests) -> Iterator[str]:
    """Published weights that are served are downloaded first, and no others."""
    values = manifests.variables
    wanted = {
        f"$({PREFIX}{task.upper()}_MODEL)"
        for task in TRAINED_TASKS
        if values.get(f"{PREFIX}{task.upper()}_WEIGHTS") == "pretrained"
    }
    downloaded = {
        container["args"][1]
        for container in manifests.pod["initContainers"]
        if container["args"][0] == "download"
    }
    if wanted != downloaded:
        yield f"served {sorted(wanted)}, downloaded {sorted(downloaded)}"
    for container in manifests.pod["initContainers"]:
        if values["OVERLOCK_CACHE_DIR"] not in mounts(container):
            yield f"{container['name']} has no place for the weights"


def grace(manifests: Manifests) -> Iterator[str]:
    """A pod leaves its endpoints first, and then answers the accepted requests."""
    before = manifests.service.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
    seconds = before.get("seconds", 0)
    if not 10 <= seconds <= 15:
        yield f"preStop sleeps for {seconds} s, not 10 to 15"
    settings = settings_of(manifests)
    needed = seconds + settings.drain_delay_seconds + settings.max_timeout_seconds
    needed += ENGINE_GRACE_SECONDS + MARGIN_SECONDS
    given = manifests.pod["terminationGracePeriodSeconds"]
    if given < needed:
        yield f"{given} s of grace, {needed:g} needed"
    if given > CLUSTER_AUTOSCALER_SECONDS:
        yield f"{given} s of grace, of which cluster-autoscaler cuts the end"


def security(manifests: Manifests) -> Iterator[str]:
    """Nothing runs as root, gains anything, writes to its image, or has a token."""
    pod = manifests.pod["securityContext"]
    wanted = {
        "runAsNonRoot": True,
        "runAsUser": UID,
        "runAsGroup": UID,
        "fsGroup": UID,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    yield from (f"pod: {key}" for key, value in wanted.items() if pod.get(key) != value)
    for container in manifests.containers:
        wanted = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        if container.get("securityContext") != wanted:
            yield f"{container['name']}: securityContext"
    if manifests.pod.get("automountServiceAccountToken") is not False:
        yield "the pod has a token"
    account = manifests.one("ServiceAccount")
    if account.get("automountServiceAccountToken") is not False:
        yield "the account hands out tokens"
    if manifests.pod["serviceAccountName"] != account["metadata"]["name"]:
        yield "the pod uses another account"
    labels = manifests.one("Namespace")["metadata"]["labels"]
    if labels["pod-security.kubernetes.io/enforce"] != "restricted":
        yield "the namespace enforces nothing"


def mounts(container: Object) -> dict[str, Any]:
    """Return a container's mounts by path."""
    return {mount["mountPath"]: mount for mount in container["volumeMounts"]}


def volumes(manifests: Manifests) -> Iterator[str]:
    """Mounts have volumes, writable where needed; keys come from a Secret that may change."""
    there = {volume["name"]: volume for volume in manifests.pod["volumes"]}
    used = set()
    for container in manifests.containers:
        for mount in container["volumeMounts"]:
            used.add(mount["name"])
            if mount["name"] not in there:
                yield f"{container['name']} mounts {mount['name']}, which is not there"
    yield from (f"nobody mounts {name}" for name in there.keys() - used)
    found, values = mounts(manifests.service), manifests.variables
    for path in (*WRITTEN, values["OVERLOCK_CACHE_DIR"]):
        if path not in found or found[path].get("readOnly"):
            yield f"{path} cannot be written to"
    keys = PurePosixPath(values["OVERLOCK_API_KEYS_FILE"])
    mount = found.get(str(keys.parent))
    if mount is None:
        yield f"{keys} is not there"
        return
    if not mount.get("readOnly") or "secret" not in there.get(mount["name"], {}):
        yield f"{keys} does not come from a Secret alone"
    if "subPath" in mount:
        yield f"{keys} would never change"
    claims = {each["metadata"]["name"] for each in manifests.all("PersistentVolumeClaim")}
    for volume in there.values():
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim is not None and claim not in claims:
            yield f"nobody claims {claim}"
