"""The Helm chart states nothing else than the manifests, and refuses what it does not know."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from functools import reduce
from itertools import permutations
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.charts import (
    CHART,
    SCRIPTS,
    ChartError,
    ChartRelease,
    Values,
    fields,
    lint,
    outcomes,
    release,
)
from support.manifest_checks import CHECKS
from support.manifest_schemas import KUBERNETES, validate
from support.manifests import ROOT, objects
from support.releases import INSTANCE, pod_labels, selectors

DEFAULTS: Values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
SCHEMA = json.loads((CHART / "values.schema.json").read_text("utf-8"))
EVERY_VALUE: Values = yaml.safe_load((SCRIPTS / "every_value.yaml").read_text("utf-8"))
DOCUMENT = (ROOT / "docs/deploying.md").read_text("utf-8")

COMPONENTS = {
    "grpc": {"grpc": {"enabled": True}},
    "httproute": {"httpRoute": {"enabled": True}},
    "keda": {"keda": {"enabled": True}},
    "monitoring": {"monitoring": {"enabled": True}},
    "shared-cache": {"persistence": {"enabled": True}},
}
ALL_COMPONENTS = {key: value for values in COMPONENTS.values() for key, value in values.items()}
ALIKE: dict[str, tuple[Values, tuple[str, ...]]] = {
    "cpu": ({}, ("cpu",)),
    "gpu": ({"variant": "gpu"}, ("gpu",)),
    **{f"cpu with {name}": (values, ("cpu", name)) for name, values in COMPONENTS.items()},
    "gpu with components": ({"variant": "gpu", **ALL_COMPONENTS}, ("gpu", *COMPONENTS)),
    "example": (
        yaml.safe_load(*re.findall(r"```yaml\n(variant: gpu\n.*?)```", DOCUMENT, re.DOTALL)),
        ("example",),
    ),
}
"""Values, and the folders of k8s that say the same."""

FREE = {
    *("requests", "limits", "podSecurityContext", "seccompProfile", "affinity", "nodeSelector"),
    *("podAnnotations", "podLabels", "annotations", "labels"),
}
"""Values whose keys the schema does not know."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # the first test makes an environment


@pytest.mark.parametrize(("values", "folders"), ALIKE.values(), ids=ALIKE)
def test_every_field_is_as_kustomize_has_it(values: Values, folders: tuple[str, ...]) -> None:
    assert fields(release(values).objects) == fields(objects(*folders))


def test_another_number_and_a_missing_object_are_differences() -> None:
    values = {"autoscaling": {"maxReplicas": 11}, "networkPolicy": {"enabled": False}}
    other, same = (fields(found) for found in (release(values).objects, objects("cpu")))
    differing = {path.partition("/")[0] for path, _ in other.items() ^ same.items()}
    assert differing == {"HorizontalPodAutoscaler overlock", "NetworkPolicy overlock"}


def test_helms_linter_has_nothing_to_say() -> None:
    assert lint([EVERY_VALUE, *(values for values, _ in ALIKE.values())]) == []


@pytest.mark.parametrize("version", [KUBERNETES[0], KUBERNETES[-1]])
def test_objects_with_every_value_follow_their_schemas(version: str) -> None:
    for each in release(EVERY_VALUE).objects:
        validate(each, version)


def test_another_release_keeps_what_the_manifests_keep() -> None:
    found = release({"variant": "gpu", **ALL_COMPONENTS}, "birds", "vision").manifests
    complaints = {name: [*check(found)] for name, check in CHECKS.items()}
    assert {name: said for name, said in complaints.items() if said} == {}
    assert found.one("Deployment")["metadata"]["name"] == "birds-overlock"


def test_two_releases_in_a_namespace_neither_select_nor_name_the_others_objects() -> None:
    pair = [release(ALL_COMPONENTS, name).objects for name in ("overlock", "birds")]
    for one, other in permutations(pair):
        (own,), (others,) = pod_labels(one), pod_labels(other)
        for place, selector in selectors(one):
            assert selector.items() <= own.items(), place
            assert not selector.items() <= others.items(), place
        assert all(each["metadata"]["labels"][INSTANCE] == own[INSTANCE] for each in one)
    names = [{(each["kind"], each["metadata"]["name"]) for each in found} for found in pair]
    assert names[0].isdisjoint(names[1])


def test_changed_settings_cause_a_rollout() -> None:
    def annotations(found: ChartRelease) -> Any:
        return found.manifests.deployment["template"]["metadata"]["annotations"]

    other = {"settings": {"OVERLOCK_MAX_BATCH_SIZE": "8"}}
    assert annotations(release({})) == annotations(release({"replicas": 5}))
    assert annotations(release({})) != annotations(release(other))


def test_null_takes_settings_away_and_with_them_the_download() -> None:
    gone = ("OVERLOCK_CLASSIFY_MODEL", "OVERLOCK_CLASSIFY_WEIGHTS")
    found = release({"settings": dict.fromkeys(gone)}).manifests
    assert not {*gone} & found.variables.keys()
    assert "initContainers" not in found.pod


def test_a_setting_precedes_the_variants() -> None:
    found = release({"variant": "gpu", "settings": {"OVERLOCK_HTTP_WORKERS": "5"}}).manifests
    assert found.variables["OVERLOCK_HTTP_WORKERS"] == "5"
    assert found.variables["OVERLOCK_DEVICES"] == "cuda"


def test_a_slice_takes_the_place_of_the_variants_gpu() -> None:
    limits = {"nvidia.com/gpu": None, "nvidia.com/mig-3g.40gb": "1"}
    found = release({"variant": "gpu", "variants": {"gpu": {"resources": {"limits": limits}}}})
    assert found.manifests.service["resources"]["limits"] == {
        "memory": "16Gi",
        "nvidia.com/mig-3g.40gb": "1",
    }


def test_versions_are_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert chart["version"] == chart["appVersion"] == project["version"]


def test_the_notes_name_the_releases_own_objects() -> None:
    notes = release({"service": {"port": 81}}, "birds", "vision").notes
    assert "-n vision port-forward service/birds-overlock 8000:81" in notes
    assert "-n overlock" not in notes


def test_a_link_that_was_not_followed_is_refused(tmp_path: Path) -> None:
    copied = tmp_path / "helm"
    shutil.copytree(CHART, copied, symlinks=True)
    link = copied / "files/prometheusrule.yaml"
    target = str(link.readlink())
    link.unlink()
    link.write_text(target)
    with pytest.raises(ChartError, match="a link, which was not followed"):
        release({"monitoring": {"enabled": True}}, chart=copied)


# Values: each has an effect, and no other is taken.


def leaves(values: Values, *path: str) -> Iterator[tuple[str, ...]]:
    """Yield the path of every value that is no group of values."""
    for key, value in values.items():
        grouped = isinstance(value, dict) and value and key not in FREE
        yield from leaves(value, *path, key) if grouped else [(*path, key)]


def with_value(values: Values, path: tuple[str, ...], value: Any) -> Values:
    """Return a copy that has another value."""
    first, *rest = path
    inner = with_value(values.get(first, {}), tuple(rest), value) if rest else value
    return {**values, first: inner}


def surroundings(path: tuple[str, ...]) -> Values:
    """Return the values without which one has no effect."""
    if path == ("replicas",):
        return {"autoscaling": {"enabled": False}}
    group = DEFAULTS[path[0]]
    switched = isinstance(group, dict) and "enabled" in group and path[-1] != "enabled"
    return {path[0]: {"enabled": True}} if switched else {}


def test_every_value_has_an_effect() -> None:
    paths = [path for path in leaves(DEFAULTS) if path[0] not in ("variants", "settings")]
    before = outcomes([surroundings(path) for path in paths])
    after = outcomes(
        [with_value(surroundings(path), path, reduce(getitem, path, EVERY_VALUE)) for path in paths]
    )
    for path, one, other in zip(paths, before, after, strict=True):
        assert isinstance(other, ChartRelease), (path, other)
        assert one != other, path


def groups(values: Values, *path: str) -> Iterator[tuple[str, ...]]:
    """Yield the path of every group of values whose keys are known."""
    yield path
    for key, value in values.items():
        if isinstance(value, dict) and key not in FREE:
            yield from groups(value, *path, key)


def test_a_misspelt_value_is_refused_wherever_it_stands() -> None:
    paths = [*groups(DEFAULTS)]
    found = outcomes([with_value({}, (*path, "misspelt"), "value") for path in paths])
    taken = [path for path, each in zip(paths, found, strict=True) if "misspelt" not in str(each)]
    assert taken == []
    assert all(isinstance(each, ChartError) for each in found)


def test_a_value_of_the_wrong_kind_is_refused() -> None:
    wrong: list[Values] = [
        {"variant": "cuda"},
        {"settings": {"OVERLOCK_SEGMENT_MODEL": False}},
        {"settings": {"OVERLOCK_PORT": 8000}},
        {"autoscaling": {"minReplicas": 0}},
        {"autoscaling": {"pendingWorkSeconds": "0.5"}},
        {"apiKeys": {"secretName": ""}},
        {"service": {"port": 70000}},
        {"networkPolicy": {"from": []}},
        {"httpRoute": {"timeout": "ten minutes"}},
    ]
    for values, found in zip(wrong, outcomes(wrong), strict=True):
        assert "don't meet the specifications" in str(found), values


def test_the_schema_knows_no_value_that_the_chart_has_not() -> None:
    assert SCHEMA["properties"].keys() - {"global"} == DEFAULTS.keys()
