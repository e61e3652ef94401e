"""Faults of the device and of the engine, and the requests that they fail."""

from __future__ import annotations

import os
import signal
import time
from functools import partial

from support.fault_clients import (
    CRASHES,
    FITS_IN_TWOS,
    HANGS,
    HARMLESS,
    LOSES_DEVICE,
    NEVER_FITS,
    POISON,
    classify,
    classify_together,
    load,
)
from support.running_service import RunningService


def engine_of(service: RunningService) -> int:
    (engine,) = service.children("service.engine.process")
    return engine


def restarts(service: RunningService) -> float:
    return service.metric("overlock_engine_restarts_total")


def restarted_since(service: RunningService, restarts_before: float) -> bool:
    return restarts(service) > restarts_before


def test_a_poison_image_fails_alone(faulty: RunningService) -> None:
    before = restarts(faulty)
    answers = classify_together(faulty, [HARMLESS] * 3 + [POISON] + [HARMLESS] * 3)
    assert [each.status_code for each in answers] == [200] * 3 + [500] + [200] * 3
    problem = answers[3].json()
    assert problem["type"] == "urn:overlock:problem:inference-failed"
    assert "poison" not in problem["detail"]
    assert restarts(faulty) == before


def test_a_batch_too_large_for_the_memory_is_split_and_later_ones_are_smaller(
    faulty: RunningService,
) -> None:
    answers = classify_together(faulty, [FITS_IN_TWOS] * 7)
    assert [each.status_code for each in answers] == [200] * 7
    assert {each.json()["timing"]["batch_size"] for each in answers} <= {1, 2}
    splits = faulty.metric("overlock_batch_faults_total", 'fault="out-of-memory"')
    assert splits >= 1
    answers = classify_together(faulty, [FITS_IN_TWOS] * 7)
    assert [each.status_code for each in answers] == [200] * 7
    assert faulty.metric("overlock_batch_faults_total", 'fault="out-of-memory"') == splits


def test_an_image_that_never_fits_in_memory_is_answered_503_alone(faulty: RunningService) -> None:
    answers = classify_together(faulty, [NEVER_FITS, HARMLESS])
    assert [each.status_code for each in answers] == [503, 200]
    assert answers[0].json()["type"] == "urn:overlock:problem:out-of-memory"
    assert answers[0].headers["retry-after"] == "1"


def test_an_engine_that_lost_its_device_is_replaced_and_only_the_cause_fails(
    faulty: RunningService,
) -> None:
    before, engine = restarts(faulty), engine_of(faulty)
    answers = classify_together(faulty, [HARMLESS, LOSES_DEVICE, HARMLESS])
    # Once in the batch and once alone.
    assert [each.status_code for each in answers] == [200, 500, 200]
    assert restarts(faulty) == before + 2
    assert engine_of(faulty) != engine
    assert "The device is lost" in faulty.log


def test_an_image_that_kills_engines_is_answered_500_and_its_neighbours_200(
    faulty: RunningService,
) -> None:
    before = restarts(faulty)
    answers = classify_together(faulty, [HARMLESS, HARMLESS, CRASHES, HARMLESS])
    assert [each.status_code for each in answers] == [200, 200, 500, 200]
    assert "died twice" in answers[2].json()["detail"]
    assert restarts(faulty) == before + 2


def test_a_batch_that_never_ends_is_found_and_only_the_cause_fails(faulty: RunningService) -> None:
    before = restarts(faulty)
    answers = classify_together(faulty, [HARMLESS, HANGS])
    assert [each.status_code for each in answers] == [200, 500]
    assert restarts(faulty) == before + 2
    assert "hangs" in faulty.log


def test_no_request_fails_when_the_engine_is_killed_under_load(faulty: RunningService) -> None:
    with load(faulty) as clients:
        for _ in range(2):
            before = restarts(faulty)
            clients.wait_for_answers(20)
            os.kill(engine_of(faulty), signal.SIGKILL)
            faulty.wait_for(partial(restarted_since, faulty, before))
        clients.wait_for_answers(20)
    assert clients.failures == {}


def test_a_stopped_engine_is_found_stuck_and_replaced_and_its_request_is_answered(
    faulty: RunningService,
) -> None:
    before = restarts(faulty)
    os.kill(engine_of(faulty), signal.SIGSTOP)
    assert classify(faulty).status_code == 200
    assert restarts(faulty) == before + 1
    assert "is stuck; killing it" in faulty.log


def test_readiness_ends_with_the_engine_and_returns_with_the_next(faulty: RunningService) -> None:
    os.kill(engine_of(faulty), signal.SIGKILL)
    killed = time.monotonic()
    faulty.wait_for(lambda: faulty.get("/readyz").status_code == 503)
    assert time.monotonic() - killed < 1.0  # milliseconds in truth
    answer = faulty.get("/readyz")
    assert answer.headers["retry-after"] == "1"
    assert faulty.get("/livez").status_code == 200
    assert classify(faulty, query="?timeout=0.3").status_code == 503
    faulty.wait_ready()


def test_an_engine_that_gets_sigterm_goes_on(faulty: RunningService) -> None:
    engine = engine_of(faulty)
    os.kill(engine, signal.SIGTERM)
    assert classify(faulty).status_code == 200
    assert engine_of(faulty) == engine
