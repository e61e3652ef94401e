"""Two releases side by side: none selects, scales or names what is the other's."""

from __future__ import annotations

import re
import shutil
from itertools import permutations
from pathlib import Path

import pytest
import yaml

from support.manifest_checks import CHECKS
from support.manifests import K8S, Manifests, Object, kustomize, manifests
from support.releases import INSTANCE, Release, pod_labels, selectors

FIRST = Release("overlock")
PAIRS = {
    "a suffix": (FIRST, Release("birds", naming=("nameSuffix", "-birds"))),
    "prefixes": (
        Release("moths", naming=("namePrefix", "moths-")),
        Release("birds", naming=("namePrefix", "birds-")),
    ),
    "namespaces": (FIRST, Release("birds", namespace="vision")),
    "autoscalers of the base": (
        Release("overlock", folder="cpu", components=()),
        Release("birds", naming=("nameSuffix", "-birds"), folder="cpu", components=()),
    ),
    "jobs": (
        Release("overlock-batch", folder="batch/indexed-job", components=()),
        Release("june", naming=("nameSuffix", "-june"), folder="batch/indexed-job", components=()),
    ),
    "Ray's jobs": (
        Release("overlock-batch", folder="batch/ray-job", components=()),
        Release("june", naming=("nameSuffix", "-june"), folder="batch/ray-job", components=()),
    ),
}

pytestmark = pytest.mark.slow

each_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)


def selected(selector: dict[str, str], pod: dict[str, str]) -> bool:
    return selector.items() <= pod.items()


@each_pair
def test_no_selector_of_one_release_matches_a_pod_of_the_other(
    pair: tuple[Release, Release],
) -> None:
    for one, other in permutations(release.render().objects for release in pair):
        own = [*pod_labels(one)]
        assert own
        for place, selector in selectors(one):
            assert all(selected(selector, pod) for pod in own), place
            assert not any(selected(selector, pod) for pod in pod_labels(other)), place


def test_every_kind_of_selector_is_looked_at() -> None:
    places = {place.partition(" ")[0] for place, _ in selectors(FIRST.render().objects)}
    assert places == {
        *("Deployment", "NetworkPolicy", "PodDisruptionBudget", "PodMonitor", "Service")
    }


@each_pair
def test_no_object_of_one_release_has_the_name_of_one_of_the_other(
    pair: tuple[Release, Release],
) -> None:
    def names(objects: list[Object]) -> set[tuple[str, ...]]:
        return {
            (each["kind"], each["metadata"]["namespace"], each["metadata"]["name"])
            for each in objects
            if each["kind"] != "Namespace"
        }

    one, other = (names(release.render().objects) for release in pair)
    assert one.isdisjoint(other)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "release",
    [
        Release("birds", "vision", ("nameSuffix", "-birds"), "gpu"),
        Release("moths", "vision", ("namePrefix", "moths-"), "cpu", ()),
    ],
    ids=lambda release: release.instance,
)
def test_a_release_of_another_name_keeps(release: Release, check: str) -> None:
    assert [*CHECKS[check](release.render())] == []


def test_a_copy_of_the_example_becomes_another_release_by_three_lines(tmp_path: Path) -> None:
    copied = tmp_path.resolve() / "k8s"
    shutil.copytree(K8S, copied)
    overlay = copied / "example/kustomization.yaml"
    text = overlay.read_text("utf-8")
    for before, after in (
        ("\nnamespace: overlock\n", "\nnamespace: vision\n"),
        ("\n# nameSuffix: -birds\n", "\nnameSuffix: -birds\n"),
        (f"{INSTANCE}: overlock\n", f"{INSTANCE}: birds\n"),
    ):
        assert text.count(before) == 1
        text = text.replace(before, after)
    overlay.write_text(text)
    made = Manifests([*yaml.safe_load_all(kustomize(overlay.parent))])
    assert {name: [*check(made)] for name, check in CHECKS.items() if [*check(made)]} == {}
    assert made.one("Deployment")["metadata"]["name"] == "overlock-birds"
    assert made.one("Namespace")["metadata"]["name"] == "vision"
    example = manifests("example")
    assert made.variables == example.variables
    assert made.service["image"] == example.service["image"]


def test_keda_counts_the_work_of_its_own_release() -> None:
    deployed = Release("birds", "vision", ("nameSuffix", "-birds")).render()
    scaled = deployed.one("ScaledObject")
    assert scaled["metadata"]["name"] == "overlock-birds"
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    assert dict(re.findall(r'(\w+)="([^"]*)"', query)) == {
        "namespace": "vision",
        re.sub(r"\W", "_", INSTANCE): "birds",
    }
    assert INSTANCE in deployed.one("PodMonitor")["spec"]["podTargetLabels"]


def test_dns_keeps_its_own_labels() -> None:
    (dns, *_) = manifests("cpu").one("NetworkPolicy")["spec"]["egress"]
    assert INSTANCE not in str(dns)
