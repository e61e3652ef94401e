"""The OpenAPI document as generators of clients, and linters, want it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import httpx
import pytest

from service.api.errors import HeadTooLargeError
from service.settings import Settings
from service.web.http.refusals import refusal
from support.service_fakes import FakeEngines, fake_app

OPERATIONS = {
    "embed": ("post", "/v1/embed"),
    "embeddings": ("post", "/v1/embeddings"),
    "explain": ("post", "/v1/explain"),
    "classify": ("post", "/v1/classify"),
    "segment": ("post", "/v1/segment"),
    "detect": ("post", "/v1/detect"),
    "list_models": ("get", "/v1/models"),
    "live": ("get", "/livez"),
    "ready": ("get", "/readyz"),
    "metrics": ("get", "/metrics"),
}
PROTOCOL_OPERATIONS = {
    "server_live": ("get", "/v2/health/live"),
    "server_ready": ("get", "/v2/health/ready"),
    "server_metadata": ("get", "/v2"),
    "all_statistics": ("get", "/v2/models/stats"),
    "repository_index": ("post", "/v2/repository/index"),
    "repository_model_load": ("post", "/v2/repository/models/{name}/load"),
    "repository_model_unload": ("post", "/v2/repository/models/{name}/unload"),
    **{
        f"{of}_{name}": (method, f"/v2/models/{{model_name}}{version}{end}")
        for of, version in (("model", ""), ("version", "/versions/{version}"))
        for name, method, end in (
            ("metadata", "get", ""),
            ("ready", "get", "/ready"),
            ("config", "get", "/config"),
            ("stats", "get", "/stats"),
            ("infer", "post", "/infer"),
        )
    },
}
INFERENCES = ("model_infer", "version_infer")
TASKS = ("classify", "segment", "detect", "embed", "explain")


@pytest.fixture(params=[None, "/overlock"])
def document(
    request: pytest.FixtureRequest, engines: FakeEngines, tmp_path: Path
) -> dict[str, Any]:
    keys = tmp_path / "keys"
    keys.touch()
    settings = Settings(
        root_path=request.param, api_keys_file=keys, max_body_bytes=12345, max_image_pixels=6789
    )
    app = fake_app(settings, engines)
    sent: dict[str, Any] = json.loads(json.dumps(app.openapi()))
    return sent


def nodes(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """All objects of a document, with their paths."""
    if isinstance(node, dict):
        yield path, node
        for name, value in node.items():
            yield from nodes(value, f"{path}/{name}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from nodes(value, f"{path}/{index}")


def operation(document: dict[str, Any], name: str) -> dict[str, Any]:
    method, path = (OPERATIONS | PROTOCOL_OPERATIONS)[name]
    found: dict[str, Any] = document["paths"][path][method]
    return found


def parameter(document: dict[str, Any], task: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in operation(document, task)["parameters"] if each["name"] == name]
    schema: dict[str, Any] = found["schema"] | {"description": found["description"]}
    return schema


def test_operations_have_the_names_that_people_would_give(document: dict[str, Any]) -> None:
    found = {
        operation["operationId"]: (method, path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert found == OPERATIONS | PROTOCOL_OPERATIONS


def test_every_problem_is_the_same_component(document: dict[str, Any]) -> None:
    schemas = [
        response["content"]["application/problem+json"]["schema"]
        for _, node in nodes(document)
        if "responses" in node
        if node.get("operationId", "embeddings") not in {"embeddings", *PROTOCOL_OPERATIONS}
        for status, response in node["responses"].items()
        if status != "200"
    ]
    assert len(schemas) > 30
    assert {json.dumps(schema) for schema in schemas} == {
        '{"$ref": "#/components/schemas/ProblemDocument"}'
    }
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_every_reference_leads_to_a_component_with_a_valid_name(document: dict[str, Any]) -> None:
    for kind, components in document["components"].items():
        for name in components:
            assert re.fullmatch(r"[A-Za-z0-9._-]+", name), f"{kind}: {name}"
    for _, node in nodes(document):
        if "$ref" in node:
            found = document
            for name in node["$ref"].removeprefix("#/").split("/"):
                found = found[name]


def test_headers_are_documented_where_they_are_sent(document: dict[str, Any]) -> None:
    for name in OPERATIONS | PROTOCOL_OPERATIONS:
        for status, response in operation(document, name)["responses"].items():
            assert {"X-Request-ID", "Server-Timing"} <= set(response["headers"])
            assert ("Retry-After" in response["headers"]) == (status in {"429", "503"})
            assert ("WWW-Authenticate" in response["headers"]) == (status == "401")
            of_model = status == "200" and name in {*TASKS, "embeddings", *INFERENCES}
            assert ("X-Model-Weights" in response["headers"]) == of_model


def test_limits_are_those_of_the_settings_and_the_models(document: dict[str, Any]) -> None:
    for task in TASKS:
        body = operation(document, task)["requestBody"]
        assert body["description"] == "At most 12345 bytes, and 6789 pixels."
        assert body["content"]["image/png"]["schema"]["maxLength"] == 12345
        timeout = parameter(document, task, "timeout")
        assert (timeout["type"], timeout["maximum"]) == ("number", 600)
        assert "Without one, 30." in timeout["description"]
    # The fake engines' classifier has four classes.
    top_k = parameter(document, "classify", "top_k")
    assert (top_k["maximum"], top_k["default"]) == (4, 4)
    assert parameter(document, "detect", "max_detections")["maximum"] == 100


async def test_the_classes_are_a_limit_as_soon_as_they_are_known(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.ready = False
    unknown = (await client.get("/openapi.json")).json()
    assert "maximum" not in parameter(unknown, "classify", "top_k")
    engines.ready = True
    known = (await client.get("/openapi.json")).json()
    assert parameter(known, "classify", "top_k")["maximum"] == 4
    assert known["servers"] == [{"url": "/"}]


def test_what_linters_find_is_not_there(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    for path, node in nodes(document):
        if node.get("type") == "array":
            assert "items" in node, path
        if "default" in node and "maximum" in node:
            assert node["minimum"] <= node["default"] <= node["maximum"], path
        if "operationId" in node:
            assert set(node["tags"]) <= tags, path
            assert node["summary"], path
            assert node["description"], path
    assert document["servers"]
    assert document["info"]["description"]


@pytest.mark.slow
def test_spectral_finds_no_error(document: dict[str, Any], tmp_path: Path) -> None:
    spectral = which("spectral")
    if spectral is None:
        pytest.skip("spectral is missing; npm install --global @stoplight/spectral-cli")
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    (tmp_path / "rules.yaml").write_text("extends: spectral:oas\n")
    done = subprocess.run(
        [spectral, "lint", "openapi.json", "--ruleset", "rules.yaml", "--fail-severity", "error"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_head_that_is_refused_unread_has_one_form_on_every_route(
    document: dict[str, Any],
) -> None:
    answer = refusal(HeadTooLargeError(limit_bytes=9), (), client="", with_body=True)
    (media_type,) = re.findall(rb"content-type: (\S+)\r", answer)
    described = [
        set(operation["responses"]["431"]["content"])
        for path in document["paths"].values()
        for operation in path.values()
        if "431" in operation["responses"]
    ]
    assert described == [{media_type.decode()}] * len(described)
    assert len(described) > len(TASKS)
