"""docs/deploying.md agrees with k8s/, the settings and the metrics."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from service.settings import PREFIX, Settings
from service.web.http.api_keys import ApiKeys
from support.manifest_cluster_checks import complaints_about, rules
from support.manifests import K8S, ROOT, VARIANTS, Manifests, kustomize, manifests

TEXT = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
OURS = {"k8s/production"}
"""What the reader makes."""

KINDS = {"hpa": "HorizontalPodAutoscaler", "podmonitor": "PodMonitor", "deployment": "Deployment"}


def commands() -> list[str]:
    return re.findall(r"\bkubectl [^`\n]*", TEXT)


def fenced(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def names(kind: str) -> set[str]:
    return {
        each["metadata"]["name"] for variant in VARIANTS for each in manifests(variant).all(kind)
    }


def anchor(heading: str) -> str:
    return re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-"))


def test_every_path_exists() -> None:
    paths = set(re.findall(r"\b(?:k8s|docker|tests|docs)/[\w./-]*\w", TEXT)) - OURS
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_link_leads_somewhere() -> None:
    anchors = {anchor(heading) for heading in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)}
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        path, _, section = link.partition("#")
        if path:
            assert (ROOT / "docs" / path).exists(), link
        else:
            assert section in anchors, link


def test_every_section_that_manifests_name_exists() -> None:
    anchors = {anchor(heading) for heading in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)}
    for path in K8S.rglob("*.yaml"):
        named = re.findall(r"docs/deploying\.md#([\w-]+)", path.read_text("utf-8"))
        assert {*named} <= anchors, path


def test_every_folder_is_in_the_table() -> None:
    listed = re.findall(r"^\| `k8s/([\w-]+)` \|", TEXT, re.MULTILINE)
    assert {*listed} == {path.name for path in K8S.iterdir()}


@pytest.mark.slow
def test_commands_name_objects_and_containers_that_there_are() -> None:
    text = "\n".join(commands())
    (namespace,) = names("Namespace")
    assert {*re.findall(r" -n (\S+)", text)} == {namespace}
    for kind, name in re.findall(r"\b(hpa|podmonitor|deployment)[/ ](\w[\w-]*)", text):
        assert name in names(KINDS[kind]), f"{kind} {name}"
    assert {*re.findall(r"service/([\w-]+)", text)} <= names("Service")
    containers = {each["name"] for variant in VARIANTS for each in manifests(variant).containers}
    assert {*re.findall(r" -c (\S+)", text)} <= containers
    deployed = manifests("cpu")
    port = deployed.one("Service")["spec"]["ports"][0]["port"]
    assert f"port-forward service/overlock 8000:{port}" in text


def test_the_secret_is_made_as_it_is_mounted() -> None:
    deployed = manifests("cpu")
    (volume,) = (each for each in deployed.pod["volumes"] if "secret" in each)
    made = {*re.findall(r"create secret generic (\S+) --from-file=(\w+)=", TEXT)}
    file = Path(deployed.variables["OVERLOCK_API_KEYS_FILE"]).name
    assert made == {(volume["secret"]["secretName"], file)}


def test_the_label_that_lets_in_is_the_policys() -> None:
    (rule,) = manifests("cpu").one("NetworkPolicy")["spec"]["ingress"]
    ((key, value),) = rule["from"][0]["namespaceSelector"]["matchLabels"].items()
    labels = set(re.findall(r"label namespace \S+ (\S+)", TEXT))
    assert labels == {f"{key}={value}"}


def test_a_rollout_is_waited_for_as_long_as_it_may_take() -> None:
    minutes = {int(each) for each in re.findall(r"--timeout=(\d+)m", TEXT)}
    assert minutes == {manifests("gpu").deployment["progressDeadlineSeconds"] / 60}


def test_variables_are_settings_and_metrics_are_exported() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    assert {*re.findall(rf"\b{PREFIX}[A-Z_]+\w", TEXT)} <= known
    for name in set(re.findall(r"\boverlock_\w+", TEXT)) - {"overlock_t", "overlock_s"}:
        assert [*complaints_about(name)] == []


def test_keys_that_are_made_as_it_says_are_keys(tmp_path: Path) -> None:
    (block,) = [each for each in fenced("bash") if "sha256sum" in each]
    script = f"set -euo pipefail\n{block}\nprintf %s $KEY"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ApiKeys(tmp_path / "keys").name_of(done.stdout) == "gateway"


def overlaid(folder: Path, patches: str, *components: str) -> Manifests:
    """Build an overlay of k8s/cpu and components."""
    # Kustomize takes relative paths alone, and resolves links first.
    folder = folder.resolve()
    beneath = [os.path.relpath(K8S / name, folder) for name in ("cpu", *components)]
    kustomization = f"resources: {beneath[:1]}\ncomponents: {beneath[1:]}\n{patches}"
    (folder / "kustomization.yaml").write_text(kustomization)
    return Manifests([*yaml.safe_load_all(kustomize(folder))])


def test_the_patch_for_own_weights_does_what_it_says(tmp_path: Path) -> None:
    pod = overlaid(tmp_path, next(each for each in fenced("yaml") if "/weights" in each)).pod
    assert not pod.get("initContainers")
    mounted = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounted > {"/weights", "/tmp"}


def test_the_lines_for_another_release_change_namespace_names_and_selectors(
    tmp_path: Path,
) -> None:
    lines = next(each for each in fenced("yaml") if "nameSuffix" in each)
    deployed = overlaid(tmp_path, lines)
    assert deployed.one("Service")["metadata"]["name"] == "overlock-birds"
    assert deployed.one("Service")["metadata"]["namespace"] == "vision"
    assert deployed.one("Service")["spec"]["selector"].items() <= deployed.pod_labels.items()
    assert "birds" in deployed.pod_labels.values()


def test_the_lines_for_the_runbooks_address_change_every_alerts_link(tmp_path: Path) -> None:
    lines = next(each for each in fenced("yaml") if "runbook_url" in each)
    deployed = overlaid(tmp_path, lines, "monitoring")
    address = yaml.safe_load(lines)["replacements"][0]["sourceValue"]
    for rule in rules(deployed):
        link = f"{address}/docs/deploying.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"] == link


def test_the_overlay_with_a_models_file_has_the_settings_of_the_base_but_the_models(
    tmp_path: Path,
) -> None:
    (tmp_path / "models.toml").write_text('[birds]\narchitecture = "demo"\n')
    overlay = next(each for each in fenced("yaml") if "MODELS_FILE" in each)
    deployed = overlaid(tmp_path, overlay)
    maps = {each["metadata"]["name"]: each["data"] for each in deployed.all("ConfigMap")}
    (settings,) = (data for name, data in maps.items() if name.startswith("overlock-settings-"))
    file = Path(settings["OVERLOCK_MODELS_FILE"])
    of_models = re.compile(f"{PREFIX}(CLASSIFY|SEGMENT|DETECT)_(MODEL|WEIGHTS)")
    base = manifests("cpu").variables
    assert settings == {
        **{name: value for name, value in base.items() if not of_models.fullmatch(name)},
        "OVERLOCK_MODELS_FILE": str(file),
    }
    (volume,) = (each for each in deployed.pod["volumes"] if each["name"] == "models")
    assert [*maps[volume["configMap"]["name"]]] == [file.name]
    mounts = {
        each["name"]: each["mountPath"] for each in deployed.pod["containers"][0]["volumeMounts"]
    }
    assert mounts["models"] == str(file.parent)


@pytest.mark.parametrize("word", ["First deployment", "Weights", "Scaling", "Upgrade", "Rollback"])
def test_the_runbook_has_a_section_for(word: str) -> None:
    assert f"\n## {word}\n" in TEXT
