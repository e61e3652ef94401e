"""docs/kubernetes-recipes.md: every recipe renders, follows the schemas and does what it says."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from service.api.queries import MAX_TIMEOUT_SECONDS
from service.processes.generation import ENGINE_GRACE_SECONDS
from support.documents import text_of
from support.manifest_checks import CHECKS
from support.manifest_pod_checks import MARGIN_SECONDS, settings_of
from support.manifest_schemas import KUBERNETES, validate
from support.manifests import K8S, Manifests, Object, kustomize, manifests

PAGE = text_of("docs/kubernetes-recipes.md")
RECIPES: dict[str, list[str]] = {
    heading: re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    for heading, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}


def overlaid(folder: Path, lines: str) -> Manifests:
    """Build an overlay of k8s/gpu with the page's lines, as if it lay in k8s."""
    folder = folder.resolve()
    kustomization = yaml.safe_load(lines) | {"resources": [os.path.relpath(K8S / "gpu", folder)]}
    kustomization["components"] = [
        os.path.relpath(K8S / name.removeprefix("../"), folder)
        for name in kustomization.get("components", [])
    ]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return Manifests([*yaml.safe_load_all(kustomize(folder))])


def grace_left(made: Manifests) -> float:
    """Return the seconds of grace that a request of the longest timeout leaves over."""
    sleep = made.service["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed = sleep + settings_of(made).max_timeout_seconds + ENGINE_GRACE_SECONDS + MARGIN_SECONDS
    left: float = made.pod["terminationGracePeriodSeconds"] - needed
    return left


def gpus_of(made: Manifests) -> dict[str, str]:
    limits: dict[str, str] = made.service["resources"]["limits"]
    return {name: number for name, number in limits.items() if name.startswith("nvidia.com/")}


def aws(made: Manifests) -> None:
    assert grace_left(made) >= 0
    assert made.pod["terminationGracePeriodSeconds"] <= 110  # of 120: the notice is polled for
    assert settings_of(made).max_timeout_seconds < MAX_TIMEOUT_SECONDS


def google(made: Manifests) -> None:
    assert grace_left(made) >= 0
    assert made.pod["terminationGracePeriodSeconds"] <= 15


def mig(made: Manifests) -> None:
    assert gpus_of(made) == {"nvidia.com/mig-3g.40gb": "1"}


def time_slicing(made: Manifests) -> None:
    assert gpus_of(made) == {"nvidia.com/gpu.shared": "1"}
    assert settings_of(made).max_batch_size < settings_of(manifests("gpu")).max_batch_size


def runtime_class(made: Manifests) -> None:
    assert made.pod["runtimeClassName"] == "nvidia"


def registry(made: Manifests) -> None:
    (secret,) = made.one("ServiceAccount")["imagePullSecrets"]
    assert f"create secret docker-registry {secret['name']} " in PAGE


def keys(made: Manifests) -> None:
    (secret,) = (each["secret"] for each in made.pod["volumes"] if "secret" in each)
    name, file = secret["secretName"], Path(made.variables["OVERLOCK_API_KEYS_FILE"]).name
    assert f"create secret generic {name} --from-file={file}=" in PAGE
    assert secret["defaultMode"] == 0o440


def pre_pull(made: Manifests) -> None:
    pulling = made.one("DaemonSet")["spec"]["template"]
    (pulled,) = pulling["spec"]["initContainers"]
    assert pulled["image"] == made.service["image"]
    assert pulling["spec"]["serviceAccountName"] == made.pod["serviceAccountName"]
    for tolerated in made.pod["tolerations"]:
        assert tolerated in pulling["spec"]["tolerations"]
    assert not made.one("Service")["spec"]["selector"].items() <= (
        pulling["metadata"]["labels"].items()
    )
    assert pulling["spec"]["securityContext"].items() <= made.pod["securityContext"].items()
    for each in (pulled, *pulling["spec"]["containers"]):
        assert each["securityContext"] == made.service["securityContext"]


def openshift(made: Manifests) -> None:
    assert {*made.pod["securityContext"]} == {
        *("fsGroupChangePolicy", "runAsNonRoot", "seccompProfile")
    }


def dual_stack(made: Manifests) -> None:
    assert made.one("Service")["spec"]["ipFamilyPolicy"] == "PreferDualStack"
    assert settings_of(made).host == "::"


OVERLAYS: dict[str, list[tuple[Callable[[Manifests], None], set[str]]]] = {
    # The checks that a recipe goes against on purpose.
    "Nodes that end soon": [(aws, set()), (google, {"grace"})],
    "MIG": [(mig, {"devices"})],
    "Time-slicing": [(time_slicing, {"devices"})],
    "A runtime class": [(runtime_class, set())],
    "A registry with a password": [(registry, set())],
    "Keys of one release alone": [(keys, set())],
    "Images pulled in advance": [(pre_pull, set())],
    "OpenShift": [(openshift, {"security"})],
    "IPv6 and dual stack": [(dual_stack, set())],
}
CASES = [
    pytest.param(lines, does, broken, id=does.__name__)
    for heading, cases in OVERLAYS.items()
    for lines, (does, broken) in zip(RECIPES[heading], cases, strict=True)
]


@pytest.mark.slow
@pytest.mark.parametrize(("lines", "does", "broken"), CASES)
def test_a_recipe_renders_and_does_what_it_says(
    tmp_path: Path, lines: str, does: Callable[[Manifests], None], broken: set[str]
) -> None:
    made = overlaid(tmp_path, lines)
    for version in KUBERNETES[1::4]:
        for each in made.objects:
            validate(each, version)
    assert {name for name, check in CHECKS.items() if [*check(made)]} == broken
    does(made)
    with pytest.raises((AssertionError, KeyError, ValueError)):
        does(manifests("gpu"))


def test_the_monitor_of_the_gpus_follows_its_schemas() -> None:
    (lines,) = RECIPES["What the GPU says of itself"]
    made: list[Object] = [*yaml.safe_load_all(lines)]
    for each in made:
        validate(each, "1.37")
    assert [each["kind"] for each in made] == ["PodMonitor", "PrometheusRule"]


def test_every_recipe_is_tried() -> None:
    assert {*RECIPES} == {*OVERLAYS, "What the GPU says of itself"}
