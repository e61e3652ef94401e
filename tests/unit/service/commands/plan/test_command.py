from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

import pytest

from service import cli
from service.api.schemas import FixedInput, InputSources, ServedModel, ShapeCost
from service.client.base import BaseClient
from service.commands.plan import command
from service.commands.plan.search import make_plan


@pytest.fixture(autouse=True)
def _short_simulations(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the requests: what is printed is looked at here, not how exact it is."""
    monkeypatch.setattr(command, "make_plan", partial(make_plan, requests=2000))


DEVICE = ("--cost", "0.005,0.0005", "--max-batch-size", "2")


def overlock_plan(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0
) -> tuple[str, str]:
    monkeypatch.setattr(sys, "argv", ["overlock", "plan", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == code
    output = capsys.readouterr()
    return output.out, output.err


def test_people_get_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--rate", "300", "--p99", "0.1", "--price-per-hour", "2.5")
    out, err = overlock_plan(monkeypatch, capsys, *DEVICE, *words)
    lines = out.splitlines()
    assert lines[0] == "300 requests/s with a p99 of 100 ms: 1 replica, OVERLOCK_MAX_BATCH_SIZE=2"
    assert lines[1].startswith("batches: 1.8 requests on average; ")
    rows = {line.split()[0]: line.split() for line in lines if line}
    assert "lost" not in out  # of one replica
    assert lines[4].split()[:5] == ["needed", "1", "300.0", "90%", "97%"]
    assert lines[4].split()[-2:] == ["2.50", "2.315"]
    assert lines[5].split()[:4] == ["one", "spare", "2", "150.0"]
    assert rows["1"][1] == "2"
    assert max(map(len, lines)) <= 100
    assert err == ""


@pytest.mark.slow
def test_programs_get_one_object_with_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--rate", "600", "--p99", "0.05", "--price-per-hour", "2.5", "--overhead", "0.02")
    out, _ = overlock_plan(monkeypatch, capsys, *DEVICE, *words, "--json")
    found: dict[str, Any] = json.loads(out)
    assert found["target"] == {"p99_seconds": 0.05, "answered_fraction": 0.999, "max_load": 0.9}
    assert found["replica"]["fixed_seconds"] == 0.005
    assert found["replica"]["max_queue_requests"] == 256
    assert found["replica"]["timeout_seconds"] == 30.0
    replicas = {name: found[name]["replicas"] for name in ("one_lost", "needed", "one_spare")}
    needed = replicas["needed"]
    assert replicas == {"one_lost": needed - 1, "needed": needed, "one_spare": needed + 1}
    assert found["by_max_batch_size"][str(found["max_batch_size"])] == found["needed"]
    assert 0.02 + 0.0055 <= found["needed"]["p50_seconds"] <= found["needed"]["p99_seconds"] <= 0.05
    assert found["needed"]["price_per_hour"] == 2.5 * needed
    assert found["needed"]["price_per_million"] == pytest.approx(2.5 * needed / 2.16)


def test_timeout_and_queue_limit_are_the_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OVERLOCK_DEFAULT_TIMEOUT_SECONDS", "0.004")
    words = ("--rate", "300", "--p99", "0.05")
    _, err = overlock_plan(monkeypatch, capsys, *DEVICE, *words, code=2)
    assert err == "overlock: The timeout of 4 ms is shorter than one image alone takes, 5.5 ms.\n"


def test_the_impossible_is_refused_with_the_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--rate", "300", "--p99", "0.005")
    out, err = overlock_plan(monkeypatch, capsys, *DEVICE, *words, code=2)
    assert out == ""
    assert err == (
        "overlock: A p99 of 5 ms is impossible: one image alone takes 5.5 ms on the device.\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rate", "0", "--p99", "1", "--cost", "1,1"), "--rate: 0 is not above 0"),
        (("--rate", "x", "--p99", "1", "--cost", "1,1"), "--rate: 'x' is not a number"),
        (("--rate", "1", "--p99", "inf", "--cost", "1,1"), "--p99: 'inf' is not a number"),
        (("--rate", "1", "--p99", "1", "--cost", "1"), "'1' is not two numbers like 0.005,0.0005"),
        (("--rate", "1", "--p99", "1", "--cost", "0.1,-1"), "--cost: -1 is below 0"),
        (("--rate", "1", "--p99", "1", "--cost", "0,0"), "the cost of a batch has to be above 0"),
        (("--rate", "1", "--p99", "1"), "one of the arguments --cost --url is required"),
        (("--rate", "1", "--p99", "1", *DEVICE, "--goodput", "2"), "2 is not above 0 and at most"),
        (
            ("--rate", "1", "--p99", "1", "--cost", "1,1", "--max-batch-size", "257"),
            "257 is not whole and from 1 to 256",
        ),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(
    words: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, err = overlock_plan(monkeypatch, capsys, *words, code=2)
    assert message in err
    assert out == ""


def served(device: str, *costs: ShapeCost) -> ServedModel:
    return ServedModel(
        name="overlock_t",
        task="classify",
        default=True,
        architecture="overlock_t",
        weights="random",
        weights_sha256=None,
        weights_kind="raw",
        demo=False,
        note=None,
        classes=["a thing"],
        input=FixedInput(width=224, height=224, mean=[0.5], std=[0.5]),
        input_from=InputSources(mean="file", std="file"),
        device=device,
        device_name="a device",
        dtype="float32",
        dtype_reason="told so",
        kernels="none",
        compiled=False,
        compiled_reason="told so",
        batch_sizes=[1, 2],
        costs=list(costs),
    )


def shape(fixed_seconds: float, per_image_seconds: float) -> ShapeCost:
    return ShapeCost(
        width=224,
        height=224,
        fixed_seconds=fixed_seconds,
        per_image_seconds=per_image_seconds,
    )


def asked(monkeypatch: pytest.MonkeyPatch, *models: ServedModel) -> tuple[str, ...]:
    """Let a service answer with these models; return the options that ask it."""

    class Service(BaseClient):
        def _open(self, headers: dict[str, str]) -> None:
            pass

        def __enter__(self) -> Service:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def models(self) -> list[ServedModel]:
            return list(models)

    monkeypatch.setattr(command, "Client", Service)
    return ("--url", "http://service", "--rate", "10", "--p99", "1", "--json")


def test_the_slowest_device_of_a_service_is_planned_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fast, slow = served("cuda:0", shape(0.005, 0.0005)), served("cuda:1", shape(0.004, 0.002))
    words = asked(monkeypatch, fast, slow)
    out, err = overlock_plan(monkeypatch, capsys, *words)
    found = json.loads(out)
    assert found["replica"]["fixed_seconds"] == 0.004
    assert list(found["by_max_batch_size"]) == ["1", "2"]
    assert err == (
        "overlock: classify with overlock_t on cuda:1 (a device), float32, 224x224: "
        "4 ms + 2 ms n; the costliest of 2 that it has learnt\n"
    )


def test_a_line_that_is_drawn_on_is_said_to_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = asked(monkeypatch, served("cpu", shape(0.005, 0.0005)))
    _, err = overlock_plan(monkeypatch, capsys, *words, "--max-batch-size", "4")
    assert "overlock: batches of more than 2 were never measured there" in err


def test_a_service_that_has_learnt_nothing_or_lacks_the_task_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = asked(monkeypatch, served("cpu"))
    _, err = overlock_plan(monkeypatch, capsys, *words, code=2)
    assert err == "overlock: The service at http://service has not yet learnt what it costs.\n"
    _, err = overlock_plan(monkeypatch, capsys, *words, "--task", "detect", code=2)
    assert "does not detect; it serves: classify." in err
