"""Triton's and KServe's own clients, and one by reflection, against the real service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.scenes.scenes import draw_scene
from support.client_environments import client_environment, run_client
from support.running_service import CLIENT, RunningService, free_port
from support.scene_files import png

SCRIPTS = Path(__file__).with_name("protocol_clients")
PIXELS = np.stack([draw_scene(620_000 + seed, 120, 160).image for seed in range(3)])
TRITON = ["http", "http.aio", "grpc", "grpc.aio"]
OUTPUTS = {"class_ids": "INT64", "scores": "FP32", "labels": "BYTES", "logits": "FP32"}
OUTPUTS |= {"embedding": "FP32"}

Found = dict[str, Any]

pytestmark = pytest.mark.timeout(300)  # the first test makes an environment


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[RunningService, str]]:
    """The service with gRPC, and where that is."""
    port = free_port()
    with RunningService(grpc_port=port) as service:
        yield service, f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def environment() -> Path:
    return client_environment(SCRIPTS / "requirements.txt")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for place, pixels in enumerate(PIXELS):
        (folder / f"{place}.png").write_bytes(png(pixels))
    np.save(folder / "pixels.npy", PIXELS)
    return folder


@pytest.fixture(scope="module", params=TRITON)
def triton(
    request: pytest.FixtureRequest,
    service: tuple[RunningService, str],
    environment: Path,
    images: Path,
) -> Found:
    """What one form of Triton's client got."""
    running, grpc_address = service
    over_http = request.param.startswith("http")
    address = running.url.removeprefix("http://") if over_http else grpc_address
    script = SCRIPTS / "triton.py"
    found = run_client(environment, script, request.param, address, str(images))
    return dict(found, kind=request.param)


@pytest.fixture(scope="module")
def kserve(service: tuple[RunningService, str], environment: Path, images: Path) -> Found:
    """What KServe's clients got."""
    running, grpc_address = service
    script = SCRIPTS / "kserve_client.py"
    found: Found = run_client(environment, script, running.url, grpc_address, str(images))
    return found


@pytest.fixture(scope="module")
def expected(service: tuple[RunningService, str]) -> Found:
    """The answers of ``/v1``, as outputs of the protocol."""
    predictions, logits, embeddings = [], [], []
    for pixels in PIXELS:
        url = service[0].url
        answer = CLIENT.post(f"{url}/v1/classify?logits=true", content=png(pixels)).json()
        predictions.append(answer["predictions"])
        logits.append(answer["logits"])
        embeddings.append(CLIENT.post(f"{url}/v1/embed", content=png(pixels)).json()["embedding"])
    keys = {"class_ids": "class_id", "scores": "score", "labels": "label"}
    return {
        name: [[each[key] for each in image] for image in predictions] for name, key in keys.items()
    } | {"logits": logits, "embedding": embeddings}


def assert_same(found: Found, expected: Found) -> None:
    for name, values in found.items():
        if name in {"class_ids", "labels"}:
            assert values == expected[name]
        else:
            # Batches of other sizes add up in another order.
            np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-5)


def digest_of(service: tuple[RunningService, str], model: str) -> str:
    models = service[0].get("/v1/models").json()["models"]
    (digest,) = [each["weights_sha256"] for each in models if each["name"] == model]
    return str(digest)


# Triton's client.


def test_tritons_client_gets_the_numbers_of_v1_however_it_sends_the_images(
    triton: Found, expected: Found
) -> None:
    forms = {"files", "pixels", "gzip"}
    if triton["kind"].startswith("http"):
        forms |= {"deflate", "json", "json_pixels"}
    assert set(triton["answers"]) == forms
    for found in triton["answers"].values():
        assert set(found) == {"class_ids", "scores", "labels"}
        assert_same(found, expected)
    assert_same(triton["others"], expected)


def test_tritons_client_gets_its_id_and_its_parameters(triton: Found, expected: Found) -> None:
    assert triton["id"] == "seven"
    assert_same(triton["top_1"], {name: [expected[name][0][:1]] for name in triton["top_1"]})


def test_tritons_client_reads_health_metadata_and_configuration(
    triton: Found, service: tuple[RunningService, str]
) -> None:
    assert (triton["live"], triton["ready"], triton["model_ready"]) == (True, True, True)
    assert triton["server"]["name"] == "overlock-service"
    assert "statistics" in triton["server"]["extensions"]
    model, version = triton["model"], digest_of(service, "demo")[:12]
    assert (model["name"], model["versions"]) == ("demo", [version])
    (image,) = model["inputs"]
    assert (image["name"], image["datatype"], list(map(int, image["shape"]))) == (
        "image",
        "BYTES",
        [-1],
    )
    assert {each["name"]: each["datatype"] for each in model["outputs"]} == OUTPUTS
    config = triton["config"].get("config", triton["config"])
    assert config.get("max_batch_size", 0) == 0  # gRPC's JSON leaves 0 out
    assert [each["data_type"] for each in config["input"]] == ["TYPE_STRING"]
    assert {each["name"] for each in config["output"]} == set(OUTPUTS)


def test_tritons_client_lists_the_repository(
    triton: Found, service: tuple[RunningService, str]
) -> None:
    listed = triton["index"]
    models = listed["models"] if isinstance(listed, dict) else listed
    assert {(each["name"], each["version"], each["state"]) for each in models} == {
        (name, digest_of(service, name)[:12], "READY") for name in ("demo", "demo-segment")
    }


def test_tritons_client_reads_statistics_that_count_its_calls(triton: Found) -> None:
    before, after = (each["model_stats"][0] for each in triton["statistics"])

    def grown(*path: str) -> int:
        found = []
        for stats in (after, before):
            for name in path:
                stats = stats.get(name, 0)
            found.append(int(stats))
        return found[0] - found[1]

    calls = len(triton["answers"]) + 3  # others, id, top_1
    assert grown("inference_stats", "success", "count") == calls
    assert grown("inference_count") == 3 * len(triton["answers"]) + 2 * 3 + 1 + 1
    assert 0 < grown("execution_count") <= grown("inference_count")
    assert grown("inference_stats", "compute_infer", "ns") > 0
    assert grown("inference_stats", "fail", "count") >= 3


def test_an_exception_of_tritons_client_has_the_services_text(triton: Found) -> None:
    errors = triton["errors"]
    assert errors["model"] == "There is no model 'no-model'; there are demo, demo-segment."
    assert errors["image"] == "image[1]: The PNG file is truncated."
    assert "no output 'mask' of demo; there are class_ids" in errors["output"]
    assert errors["parameter"].startswith("top_k: Input should be greater than or equal to 1")
    assert "second" in errors["timeout"]


# KServe's clients.


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_kserves_client_gets_the_numbers_of_v1_however_it_sends_the_images(
    kserve: Found, expected: Found, protocol: str
) -> None:
    forms = {"rest": {"files", "pixels", "json", "json_pixels", "binary"}}
    answers = kserve[protocol]["answers"]
    assert set(answers) == forms.get(protocol, {"files", "pixels"})
    for found in answers.values():
        assert set(found) == {"class_ids", "scores", "labels"}
        assert_same(found, expected)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_kserves_client_reads_health(kserve: Found, protocol: str) -> None:
    found = kserve[protocol]
    assert (found["live"], found["ready"], found["model_ready"]) == (True, True, True)
    assert not kserve["rest"]["other_model_ready"]


def test_an_exception_of_kserves_client_has_the_services_text(kserve: Found) -> None:
    rest, grpc = kserve["rest"]["errors"], kserve["grpc"]["errors"]
    assert rest["model"].startswith("There is no model 'no-model'; there are demo, demo-segment.")
    assert rest["image"].startswith("image[1]: The PNG file is truncated., '422 ")
    assert rest["parameter"].startswith("top_k: Input should be greater than or equal to 1")
    assert grpc["image"] == "image[1]: The PNG file is truncated."


# A client that knows reflection alone.


def test_a_client_by_reflection_finds_the_methods_and_gets_the_numbers_of_v1(
    service: tuple[RunningService, str], environment: Path, images: Path, expected: Found
) -> None:
    found = run_client(environment, SCRIPTS / "by_reflection.py", service[1], str(images))
    assert {"grpc.health.v1.Health", "inference.GRPCInferenceService"} <= set(found["services"])
    assert {"ModelInfer", "ModelStatistics", "RepositoryIndex"} <= set(found["methods"])
    assert (found["live"], found["health"]) == ({"live": True}, {"status": "SERVING"})
    assert [each["name"] for each in found["model"]["outputs"]] == list(OUTPUTS)
    assert found["class_ids"] == expected["class_ids"]
