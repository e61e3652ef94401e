"""The image as Docker and KServe run it: `make test-image`."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from PIL import Image

from model.scenes.scenes import draw_scene
from support.documents import text_of
from support.image_build import ROOT, VARIANT, ImageStore
from support.image_container import Container
from support.kserve_manifests import MODELS, kserve_manifests, service_links
from support.protocol_calls import document

WEIGHTS = ROOT / "model/demo/weights/overlock_nano.safetensors"

COMPILER = """
import torch._inductor.async_compile, torch._inductor.codegen.triton
import torch._inductor.runtime.triton_heuristics
from triton.backends import backends
print([*backends])
"""

gpu_alone = pytest.mark.skipif(VARIANT != "cuda", reason="the image is for CPUs")

# Without the build.
pytestmark = pytest.mark.timeout(300, func_only=True)


def photo() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw_scene(7, 480, 640, label=3).image).save(buffer, "JPEG")
    return buffer.getvalue()


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


@gpu_alone
def test_its_oldest_gpu_is_the_documented_one(container: Container) -> None:
    asked = container.execute("python", "-c", "import torch; print(torch._C._cuda_getArchFlags())")
    found = sorted(int(each) for each in re.findall(r"sm_(\d+)", asked.stdout))
    print(f"\n{asked.stdout}")
    assert f"capability {found[0] / 10}" in text_of("docker/README.md")


@gpu_alone
def test_torchs_compiler_loads_what_is_left_of_triton(container: Container) -> None:
    loaded = container.execute("python", "-c", COMPILER)
    assert (loaded.returncode, loaded.stdout) == (0, "['nvidia']\n"), loaded.stderr


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


@gpu_alone
def test_without_a_gpu_it_warns_and_names_the_reason(container: Container) -> None:
    assert "The CPU computes, though this torch is built for GPUs: it can use none: " in (
        container.log
    )


@gpu_alone
def test_where_a_gpu_is_asked_for_it_ends_and_names_the_reason(
    store: ImageStore, root: Path, tmp_path: Path
) -> None:
    asked = {"OVERLOCK_DEVICES": "cuda"}
    with Container(root, store.configuration, tmp_path, environment=asked) as container:
        assert container.process.wait(60) == 2, container.log
        assert "OVERLOCK_DEVICES is cuda; torch can use no GPU: " in container.log
        print(f"\n{container.log}")
