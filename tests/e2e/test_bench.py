"""``overlock bench`` as users call it, against the real service, by each protocol."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from support.command_line import overlock
from support.running_service import RunningService, free_port

KEY = "k-31415926535897"
ROUTES = {
    "v1": "/v1/classify",
    "v2": "/v2/models/{model_name}/infer",
    "grpc": "/inference.GRPCInferenceService/ModelInfer",
}


def test_a_service_is_loaded_and_measured(demo: RunningService) -> None:
    before = demo.metric("overlock_requests_total", "/v1/classify")
    done = overlock(
        *("bench", "--url", demo.url, "--concurrency", "2", "--rate", "4", "--seconds", "1.6"),
        "--json",
    )
    assert done.returncode == 0, done.stderr
    closed, open_ = map(json.loads, done.stdout.splitlines())
    assert (closed["loop"], closed["level"]) == ("closed", 2)
    assert (open_["loop"], open_["level"]) == ("open", 4)
    assert closed["answered_per_second"] > 0
    assert 0 < closed["p50_seconds"] <= closed["p99_seconds"]
    assert closed["failed_fraction"] == open_["failed_fraction"] == 0
    assert demo.metric("overlock_requests_total", "/v1/classify") > before + 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seconds", "1"), "--seconds is 1; it has to be more than 1"),
        (("--concurrency", "1.5"), "--concurrency is 1.5; it has to be whole"),
        (("--task", "detect"), "does not detect"),
        (("--image", __file__), "The image cannot be decoded"),
        (("--images", "65", "--protocol", "v2"), "--images is 65; it has to be from 1 to 64"),
        (("--images", "2"), "--protocol v1 takes one image in a request"),
        (("--images", "2", "--protocol", "v2", "--task", "segment"), "only classify takes several"),
        (("--protocol", "grpc", "--grpc-port", "1"), r"gRPC at 127.0.0.1:1 .* cannot be reached"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_load_that_makes_no_sense_is_refused(
    words: tuple[str, ...], message: str, demo: RunningService
) -> None:
    done = overlock("bench", "--url", demo.url, *words)
    assert done.returncode == 2
    assert re.search(message, done.stderr.decode())
    assert b"Traceback" not in done.stderr


def load(service: RunningService, protocol: str, *words: str) -> dict[str, Any]:
    """Put a service under one short load; return what was measured."""
    before = service.metric("overlock_requests_total", ROUTES[protocol])
    options = ("--protocol", protocol, "--concurrency", "2", "--seconds", "1.2", "--json")
    done = overlock("bench", "--url", service.url, *options, *words)
    assert done.returncode == 0, done.stderr
    (measured,) = map(json.loads, done.stdout.splitlines())
    assert (measured["failed_fraction"], measured["refused_fraction"]) == (0, 0)
    # One to see whether it is answered, and a load by each of two clients.
    assert service.metric("overlock_requests_total", ROUTES[protocol]) >= before + 3
    return dict(measured)


@pytest.mark.parametrize("words", [(), ("--task", "segment")], ids=" ".join)
def test_the_open_inference_protocol_is_measured(
    words: tuple[str, ...], demo: RunningService
) -> None:
    load(demo, "v2", *words)


def test_a_table_of_calls_with_several_images_shows_images(demo: RunningService) -> None:
    words = ("--protocol", "v2", "--images", "2", "--concurrency", "1", "--seconds", "1.6")
    heading, row = overlock("bench", "--url", demo.url, *words).stdout.decode().splitlines()
    measured = dict(zip(re.split(r"\s{2,}", heading), row.split(), strict=True))
    assert float(measured["images/s"]) == pytest.approx(2 * float(measured["answered/s"]), abs=0.11)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningService, list[str]]]:
    """The demo's classifier behind a key, by HTTP and gRPC, and the options that reach it."""
    folder, port = tmp_path_factory.mktemp("keys"), free_port()
    (folder / "key").write_text(KEY)
    (folder / "keys").write_text(f"bench {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    with RunningService(
        api_keys_file=str(folder / "keys"), segment_model="off", grpc_port=port
    ) as service:
        yield service, ["--api-key-file", str(folder / "key"), "--grpc-port", str(port)]


@pytest.mark.parametrize("protocol", ROUTES)
def test_every_protocol_carries_the_key(
    protocol: str, guarded: tuple[RunningService, list[str]]
) -> None:
    service, options = guarded
    assert load(service, protocol, *options)["images"] == 1


@pytest.mark.parametrize("protocol", ["v2", "grpc"])
def test_the_images_of_a_request_count_each(
    protocol: str, guarded: tuple[RunningService, list[str]]
) -> None:
    service, options = guarded
    measured = load(service, protocol, "--images", "3", *options)
    assert measured["images"] == 3
    assert measured["images_per_second"] == 3 * measured["answered_per_second"]
