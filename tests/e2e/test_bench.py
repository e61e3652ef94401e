"""``overlock bench`` as users call it, against the real service, by each protocol."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support.command_line import overlock
from support.running_service import RunningService, free_port

KEY = "k-31415926535897"
INFER = "/v2/models/{model_name}/infer"


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


def loaded(url: str, *words: str) -> dict[str, Any]:
    """Put a service under one short load, and return what was measured."""
    done = overlock("bench", "--url", url, "--seconds", "1.6", "--json", *words)
    assert done.returncode == 0, done.stderr
    (measured,) = map(json.loads, done.stdout.splitlines())
    assert measured["answered_per_second"] > 0
    assert measured["images_per_second"] == pytest.approx(
        measured["images"] * measured["answered_per_second"]
    )
    return dict(measured)


@pytest.mark.parametrize("words", [(), ("--task", "segment"), ("--images", "3")], ids=str)
def test_the_open_inference_protocol_is_measured(
    words: tuple[str, ...], demo: RunningService
) -> None:
    before = demo.metric("overlock_requests_total", INFER)
    loaded(demo.url, "--protocol", "v2", "--concurrency", "2", *words)
    assert demo.metric("overlock_requests_total", INFER) > before + 2


def test_a_table_of_calls_with_several_images_shows_images(demo: RunningService) -> None:
    words = ("--protocol", "v2", "--images", "2", "--concurrency", "1", "--seconds", "1.6")
    heading, row = overlock("bench", "--url", demo.url, *words).stdout.decode().splitlines()
    measured = dict(zip(re.split(r"\s{2,}", heading), row.split(), strict=True))
    assert float(measured["images/s"]) == pytest.approx(2 * float(measured["answered/s"]), abs=0.11)


class Guarded(NamedTuple):
    """The demo's classifier behind a key, by HTTP and gRPC."""

    url: str
    grpc_port: int
    key_file: Path


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder, port = tmp_path_factory.mktemp("keys"), free_port()
    (folder / "key").write_text(KEY)
    (folder / "keys").write_text(f"bench {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    with RunningService(
        api_keys_file=str(folder / "keys"), segment_model="off", grpc_port=port
    ) as service:
        yield Guarded(service.url, port, folder / "key")


@pytest.mark.parametrize(
    "words",
    [("v1",), ("v2",), ("grpc",), ("grpc", "--images", "3")],
    ids=" ".join,
)
def test_every_protocol_carries_the_key(words: tuple[str, ...], guarded: Guarded) -> None:
    key = ("--api-key-file", str(guarded.key_file), "--grpc-port", str(guarded.grpc_port))
    loaded(guarded.url, "--protocol", *words, "--concurrency", "2", *key)
