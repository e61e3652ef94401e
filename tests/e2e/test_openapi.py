"""The service does what the OpenAPI document says, for generated requests."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from support.running_service import RunningService


@schemathesis.serializer("image/bmp", "image/tiff")
def as_it_is(_: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.fixture(scope="module")
def document(demo: RunningService) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{demo.url}/openapi.json")


OPERATIONS = [
    ("POST", "/v1/classify"),
    ("POST", "/v1/segment"),
    ("POST", "/v1/detect"),
    ("POST", "/v1/embed"),
    ("POST", "/v1/explain"),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/models"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/v2"),
    ("GET", "/v2/health/live"),
    ("GET", "/v2/health/ready"),
    ("GET", "/v2/models/stats"),
    *(
        (method, f"/v2/models/{{model_name}}{version}{end}")
        for version in ("", "/versions/{version}")
        for method, end in (
            ("GET", ""),
            ("GET", "/ready"),
            ("GET", "/config"),
            ("GET", "/stats"),
            ("POST", "/infer"),
        )
    ),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/{name}/load"),
    ("POST", "/v2/repository/models/{name}/unload"),
]


def test_every_operation_is_tried(document: schemathesis.BaseSchema) -> None:
    found = [result.ok() for result in document.get_all_operations() if isinstance(result, Ok)]
    assert {(each.method.upper(), each.path) for each in found} == set(OPERATIONS)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_any_request_is_answered_as_the_document_says(
    document: schemathesis.BaseSchema, method: str, path: str
) -> None:
    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=document[path][method].as_strategy())
    def ask(case: schemathesis.Case[Any]) -> None:
        # 504 is a right answer to timeout=0.001, 500 never is; and a schema cannot say what bytes
        # are an image.
        answer = case.call_and_validate(
            excluded_checks=[not_a_server_error, positive_data_acceptance]
        )
        assert answer.status_code != 500

    ask()
