"""Build the image and run it as Docker would: `make test-image`, about three minutes."""

from __future__ import annotations

import functools
import io
import json
import re
import shutil
import signal
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from model.scenes.scenes import draw_scene
from service.settings import PREFIX, Settings
from support.image_build import ImageStore, missing_tools
from support.image_container import Container
from support.kserve_manifests import MODELS, kserve_manifests, service_links
from support.protocol_calls import document

VERSION: str = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))[
    "project"
]["version"]

WEIGHTS = Path(__file__).parents[1] / "model/demo/weights/overlock_nano.safetensors"

LARGEST_BYTES = 1_500_000_000
"""Largest image on this test's base; docker/README.md lists what it is made of."""

# Without the build, which takes as long as the machine and its mirrors do.
pytestmark = pytest.mark.timeout(300, func_only=True)


@pytest.fixture(scope="session")
def store() -> Iterator[ImageStore]:
    missing = missing_tools()
    assert not missing, f"Not installed: {', '.join(missing)}; see docker/install-buildah.sh"
    folder = Path(tempfile.mkdtemp(prefix="overlock-image-"))
    store = ImageStore(folder)
    try:
        # This machine's pip is configured with an index that has torch's builds for CPUs.
        store.build({"TORCH_VARIANT": "cpu", "VERSION": VERSION, "REVISION": _revision()})
        yield store
    finally:
        store.remove()


@pytest.fixture(scope="session")
def root(store: ImageStore) -> Iterator[Path]:
    with store.mounted() as root:
        yield root


@pytest.fixture(scope="session")
def container(
    store: ImageStore, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    """Run the image's own command."""
    folder = tmp_path_factory.mktemp("overlock-container")
    with Container(root, store.configuration, folder) as container:
        container.wait_for(" is ready after ")
        yield container


def photo() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw_scene(7, 480, 640, label=3).image).save(buffer, "JPEG")
    return buffer.getvalue()


def test_the_image_says_what_it_is_and_how_it_runs(store: ImageStore) -> None:
    configuration = store.configuration
    assert configuration["User"] == "10001:10001"
    assert list(configuration["ExposedPorts"]) == ["8000/tcp"]
    assert [*configuration["Entrypoint"], *configuration["Cmd"]] == [
        *("tini", "--"),
        *("overlock", "serve"),
    ]
    labels = configuration["Labels"]
    assert labels["org.opencontainers.image.title"] == "overlock-service"
    assert labels["org.opencontainers.image.version"] == VERSION
    assert labels["org.opencontainers.image.revision"] == _revision()


def test_it_holds_the_service_and_nothing_else_of_the_repository(root: Path) -> None:
    (packages,) = root.glob("opt/overlock/lib/python3*/site-packages")
    assert (packages / "model" / "demo" / "weights" / "overlock_nano.safetensors").exists()
    assert (packages / "service" / "cli.py").exists()
    for name in ("tests", "benchmarks", "pip", "pytest", "ruff", "mypy"):
        assert not (packages / name).exists(), name
    assert not list(root.glob("source/*"))


def test_it_holds_no_compiler(root: Path) -> None:
    for folder in ("usr/bin", "usr/local/bin", "opt/overlock/bin"):
        for name in ("cc", "gcc", "clang", "g++", "ld", "make"):
            assert not (root / folder / name).exists(), f"{folder}/{name}"


def test_its_size_has_a_limit(store: ImageStore) -> None:
    layers = store.layers()
    print("\n  MB  packed")
    for layer in layers:
        instruction = re.sub(r".*/bin/sh -c |--mount=\S+ +", "", layer.created_by)
        instruction = re.sub(r" +", " ", instruction)[:88]
        print(f"{layer.bytes / 1e6:4.0f} {layer.packed_bytes / 1e6:7.1f}  {instruction}")
    size_bytes = sum(layer.bytes for layer in layers)
    print(f"{size_bytes / 1e6:4.0f} {sum(layer.packed_bytes for layer in layers) / 1e6:7.1f}")
    assert size_bytes < LARGEST_BYTES


def test_it_classifies_a_photo_with_the_shipped_kernels(container: Container) -> None:
    answer = json.loads(
        container.curl(
            "/v1/classify", "--header", "Content-Type: image/jpeg", "--data-binary", "@-",
            body=photo(),
        )
    )  # fmt: skip
    assert answer["predictions"][0]["label"] == "star"
    assert answer["image"] == {"width": 640, "height": 480, "frames": 1}
    models = json.loads(container.curl("/v1/models"))["models"]
    assert {model["kernels"] for model in models} == {"native"}
    print(f"\n{container.log}{answer['predictions'][0]}")


def test_it_segments_a_photo(container: Container) -> None:
    png = container.curl(
        "/v1/segment", "--header", "Content-Type: image/jpeg", "--header", "Accept: image/png",
        "--data-binary", "@-", body=photo(),
    )  # fmt: skip
    with Image.open(io.BytesIO(png)) as label_map:
        assert label_map.size == (640, 480)


def test_it_is_nobody_and_writes_where_it_may_alone(container: Container) -> None:
    assert container.execute("id", "--user").stdout == "10001\n"
    capabilities = container.execute("grep", "CapEff", "/proc/1/status").stdout
    assert capabilities.split() == ["CapEff:", "0" * 16]
    for folder, is_writable in {
        "/": False,
        "/opt/overlock": False,
        "/etc": False,
        "/tmp": True,
        "/dev/shm": True,
        "/var/cache/overlock": True,
    }.items():
        done = container.execute("touch", f"{folder}/probe")
        assert (done.returncode == 0) == is_writable, f"{folder}: {done.stderr}"


def test_its_first_process_is_tini(container: Container) -> None:
    command = container.execute("cat", "/proc/1/cmdline").stdout
    assert command.split("\0")[:2] == ["tini", "--"]


def test_its_health_check_knows_a_service_from_none(
    store: ImageStore, container: Container
) -> None:
    kind, *check = store.configuration["Healthcheck"]["Test"]
    assert kind == "CMD"
    assert container.execute(*check).returncode == 0
    *command, _ = check
    assert container.execute(*command, "/readyz").returncode == 0
    missing = container.execute(*command, "/nowhere")
    assert (missing.returncode, missing.stderr) == (1, "/nowhere: status 404\n")
    refused = container.execute("env", "OVERLOCK_PORT=9", *check)
    assert refused.returncode == 1
    assert "refused" in refused.stderr


def test_its_modules_need_no_compiling(container: Container) -> None:
    loaded = container.execute("python", "-v", "-c", "import service.cli").stderr
    assert "service/cli.py" in loaded
    stale = [line for line in loaded.splitlines() if "bytecode is stale" in line]
    assert stale == []


def test_sigterm_ends_it_with_exit_code_zero(container: Container) -> None:
    started = time.monotonic()
    assert container.stop() == 0
    print(f"\nstopped after {time.monotonic() - started:.1f} s")
    assert "Stopping: accepted requests get" in container.log


def test_sigterm_ends_it_while_it_starts(store: ImageStore, root: Path, tmp_path: Path) -> None:
    with Container(root, store.configuration, tmp_path) as container:
        container.wait_for_a_process()
        assert container.stop(timeout=5.0) in {0, 128 + signal.SIGTERM}


def test_kserve_runs_it_by_our_runtime_as_any_user(
    store: ImageStore, root: Path, tmp_path: Path
) -> None:
    kserve = kserve_manifests()
    models, folder = tmp_path / "models", tmp_path / "overlock-kserve"
    models.mkdir()
    folder.mkdir()
    shutil.copy(WEIGHTS, models)
    with Container(
        root,
        store.configuration,
        folder,
        kserve.container["args"],
        environment=kserve.environment | service_links(kserve.name),
        user=1_000_720_000,
        read_only={MODELS: models},
        port=8080,
    ) as container:
        container.wait_for(" is ready after ")
        assert container.execute("id", "--user").stdout == "1000720000\n"
        assert container.execute("touch", f"{MODELS}/probe").returncode != 0
        container.curl("/v2/health/ready")
        container.curl("/v2/models/overlock/ready")
        call = json.dumps(document(photo(), outputs=["labels"]))
        answer = json.loads(
            container.curl("/v2/models/overlock/infer", "--data-binary", "@-", body=call.encode())
        )
        print(f"\n{container.log}{answer['model_name']}: {answer['outputs'][0]['data']}")
        assert answer["model_name"] == "overlock"
        assert answer["outputs"][0]["data"][0] == "star"
        assert container.stop() == 0


def test_it_runs_the_other_commands(store: ImageStore, root: Path, tmp_path: Path) -> None:
    words = ("evaluate", "classify", "--model=demo", "--weights=demo", "--data=demo", "--limit=8")
    with Container(root, store.configuration, tmp_path, words) as container:
        assert container.process.wait(60) == 0, container.log
        assert "top-1" in container.log


def test_its_variables_are_settings(store: ImageStore) -> None:
    environment: dict[str, Any] = dict(
        variable.split("=", 1) for variable in store.configuration["Env"]
    )
    ours = {name for name in environment if name.startswith(PREFIX)}
    assert ours == {"OVERLOCK_HOST", "OVERLOCK_CACHE_DIR"}
    assert {name.removeprefix(PREFIX).lower() for name in ours} <= Settings.model_fields.keys()


@functools.cache
def _revision() -> str:
    """Return the commit that is built; while it is, another may follow."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return head.stdout.strip()
