from __future__ import annotations

import grpc
import pytest

from service.api.errors import all_errors
from service.web.grpc.statuses import OF_THE_SERVICE, code_of

Code = grpc.StatusCode


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (200, Code.OK),
        (400, Code.INVALID_ARGUMENT),
        (401, Code.UNAUTHENTICATED),
        (403, Code.PERMISSION_DENIED),
        (404, Code.NOT_FOUND),
        (413, Code.RESOURCE_EXHAUSTED),
        (415, Code.INVALID_ARGUMENT),
        (422, Code.INVALID_ARGUMENT),
        (429, Code.RESOURCE_EXHAUSTED),
        (499, Code.CANCELLED),
        (500, Code.INTERNAL),
        (503, Code.UNAVAILABLE),
        (504, Code.DEADLINE_EXCEEDED),
    ],
)
def test_each_status_of_http_has_its_code(status: int, code: grpc.StatusCode) -> None:
    assert code_of(status) is code


def test_the_service_has_failed_where_http_says_so() -> None:
    for error in all_errors():
        assert (code_of(error.status) in OF_THE_SERVICE) == (error.status >= 500)
