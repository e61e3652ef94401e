"""compose.yaml is valid, and agrees with the image, the service and Prometheus."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from service.settings import PREFIX, Settings, load_settings
from service.web.routes import health
from support.compose import ROOT, compose, configuration_of_prometheus, environment_file, mounts

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
FILES = ["compose.yaml", "compose.gpu.yaml"]
OVERLOCK: dict[str, Any] = compose()["services"]["overlock"]
PROBES = {getattr(route, "path", "") for route in health.router.routes}


def schema_errors(path: str) -> str:
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*checker, path], cwd=ROOT, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("name", FILES)
def test_it_follows_the_compose_specification(name: str) -> None:
    assert schema_errors(name) == ""


def test_the_schema_finds_a_misspelt_key(tmp_path: Any) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((ROOT / "compose.yaml").read_text("utf-8").replace("read_only", "readonly"))
    assert "readonly" in schema_errors(str(wrong))


def names_of_settings(text: str) -> set[str]:
    return set(re.findall(rf"\b{PREFIX}[A-Z_]+", text))


@pytest.mark.parametrize("name", [*FILES, ".env.example", "Dockerfile", "docker/healthcheck.py"])
def test_every_variable_is_a_setting(name: str) -> None:
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    assert names_of_settings((ROOT / name).read_text(encoding="utf-8")) <= known


def test_the_example_serves_the_demo_as_it_is() -> None:
    given = environment_file(EXAMPLE)
    assert not [name for name in given if name.startswith(PREFIX)]


def test_the_examples_comments_are_settings_that_can_be_served_together() -> None:
    given = environment_file(EXAMPLE, uncomment=True)
    ours = {name: value for name, value in given.items() if name.startswith(PREFIX)}
    settings = load_settings({name.removeprefix(PREFIX).lower(): ours[name] for name in ours})
    assert settings.classify_model == "overlock_t"
    assert (settings.classify_weights or "").startswith("/weights/")


def test_composes_own_variables_are_in_the_example() -> None:
    used = set(re.findall(r"\$\{(\w+):-", (ROOT / "compose.yaml").read_text(encoding="utf-8")))
    example = environment_file(EXAMPLE, uncomment=True)
    assert used == {name for name in example if not name.startswith(PREFIX)}


def test_the_port_is_the_one_that_is_published_scraped_exposed_and_asked_for_health() -> None:
    port = OVERLOCK["environment"]["OVERLOCK_PORT"]
    assert OVERLOCK["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"EXPOSE {port}\n" in DOCKERFILE
    assert int(port) == Settings.model_fields["port"].default  # what the health check asks
    (job,) = configuration_of_prometheus()["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"overlock:{port}"]}]
    assert job.get("metrics_path", "/metrics") in PROBES


def test_the_health_checks_ask_probes_that_exist() -> None:
    (image_check,) = re.findall(r"HEALTHCHECK .*\n\s+CMD (\[.*\])", DOCKERFILE)
    *command, path = yaml.safe_load(image_check)
    *composed, composed_path = OVERLOCK["healthcheck"]["test"]
    assert composed == ["CMD", *command]
    assert {path, composed_path} <= PROBES


def test_the_cache_is_a_named_volume_where_the_image_has_it() -> None:
    folder = OVERLOCK["environment"]["OVERLOCK_CACHE_DIR"]
    assert f"OVERLOCK_CACHE_DIR={folder}" in DOCKERFILE
    assert f"cache:{folder}" in OVERLOCK["volumes"]
    assert "cache" in compose()["volumes"]


def test_the_root_is_read_only_and_nothing_is_gained() -> None:
    assert OVERLOCK["read_only"]
    assert OVERLOCK["tmpfs"] == ["/tmp"]
    for service in compose()["services"].values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_stopping_takes_longer_than_a_request_may() -> None:
    grace_seconds = int(OVERLOCK["stop_grace_period"].removesuffix("s"))
    assert grace_seconds > Settings.model_fields["max_timeout_seconds"].default


@pytest.mark.parametrize("service", ["overlock", "prometheus", "grafana"])
def test_what_is_mounted_exists(service: str) -> None:
    for path in mounts(service).values():
        assert path.exists(), path


def test_no_folder_of_the_host_is_made_by_root() -> None:
    (weights,) = (each for each in OVERLOCK["volumes"] if not isinstance(each, str))
    assert weights["target"] == "/weights"
    assert weights["read_only"]
    assert not weights["bind"]["create_host_path"]


def test_logs_and_memory_are_bounded() -> None:
    gpu = compose("compose.gpu.yaml")["services"]["overlock"]
    for service in [*compose()["services"].values(), gpu]:
        assert service["deploy"]["resources"]["limits"]["memory"]
    for service in compose()["services"].values():
        assert service["logging"]["driver"] == "json-file"
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}


def test_a_port_in_a_printed_command_is_published_to_this_machine_alone() -> None:
    documents = [
        ROOT / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "docker").glob("*.md"),
    ]
    published = re.compile(r"(?:--publish|-p)[ =](\S*:\d+)")
    found = [port for each in documents for port in published.findall(each.read_text("utf-8"))]
    assert found
    assert [port for port in found if not port.startswith("127.0.0.1:")] == []


def test_images_of_others_have_a_version() -> None:
    for name, service in compose()["services"].items():
        if "build" not in service:
            assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name


def test_the_gpu_variant_builds_another_image_and_reserves_the_devices() -> None:
    gpu = compose("compose.gpu.yaml")["services"]["overlock"]
    assert gpu["image"] != OVERLOCK["image"]
    assert gpu["build"]["args"] == {"TORCH_VARIANT": "cuda"}
    for arguments in (gpu["build"]["args"], OVERLOCK["build"]["args"]):
        assert f" AS system-{arguments['TORCH_VARIANT']}\n" in DOCKERFILE
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def test_grafana_asks_prometheus_as_often_as_it_scrapes_and_finds_the_dashboards() -> None:
    folder = mounts("grafana")["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    interval = configuration_of_prometheus()["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval
    (provider,) = yaml.safe_load((folder / "dashboards" / "overlock.yml").read_text())["providers"]
    inside = provider["options"]["path"]
    assert (mounts("grafana")[inside] / "overlock.json").exists()
    home = compose()["services"]["grafana"]["environment"][
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
    ]
    assert home == f"{inside}/overlock.json"


def test_the_image_is_given_only_what_the_dockerfile_copies() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    allowed = {line[1:].rstrip("/") for line in ignored if line.startswith("!")}
    copied = set()
    whole_lines = DOCKERFILE.replace("\\\n", "")
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", whole_lines, re.MULTILINE):
        copied |= {source.rstrip("/") for source in sources.split()}
    assert copied - {"model/kernels"} == allowed
