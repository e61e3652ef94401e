"""Models that are exchanged under load: nothing is lost, whatever happens to the new engines."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.fault_clients import SLOW, classify
from support.running_service import RunningService
from support.swapped_models import NAMES, Models, ask, reload, shown, start_reload, traffic

Start = Callable[..., RunningService]
ENGINE = "service.engine.process"


@pytest.fixture(scope="module", autouse=True)
def _others_services_are_not_found() -> Iterator[None]:
    with (
        tempfile.TemporaryDirectory(prefix="reloads-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TMPDIR", folder)
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def own(models: Models, start_faulty: Start, runtime: Path) -> Iterator[RunningService]:
    """A service of the test's own, with the first weights."""
    models.name("first.pth")
    with start_faulty(models_file=str(models.file), http_workers=2) as running:
        yield running


@pytest.fixture(scope="module")
def shared(models: Models, start_faulty: Start) -> Iterator[RunningService]:
    models.name("first.pth")
    with start_faulty(models_file=str(models.file), http_workers=2) as running:
        yield running


@pytest.fixture
def service(shared: RunningService) -> RunningService:
    """A service that others have used, with one generation."""
    shared.wait_for(lambda: len(shared.children(ENGINE)) == 1)
    return shared


def swap(service: RunningService, models: Models, weights: str) -> None:
    before = shown(service).generation
    models.name(weights)
    outcome = reload()
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout == f"generation {before + 1} serves at {service.url}\n"
    assert shown(service).generation == before + 1


def capacity(service: RunningService) -> float:
    """Return the requests a second that a few clients get answered."""
    started = time.monotonic()
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda number: ask(service, NAMES[number % 2]), range(200)))
    assert {answer.status_code for answer in answers} == {200}
    return len(answers) / (time.monotonic() - started)


@pytest.mark.parametrize(
    ("swaps", "share"),
    [(4, None), pytest.param(20, 0.7, marks=pytest.mark.exhaustive)],
    ids=["four", "twenty at 70 % of capacity"],
)
@pytest.mark.timeout(600)
def test_swaps_under_load_lose_no_request(
    models: Models, own: RunningService, runtime: Path, swaps: int, share: float | None
) -> None:
    # Beside other tests the machine has less to give than it had a moment before.
    rate = 10.0 if share is None else share * capacity(own)
    with traffic(own, rate) as sent:
        for number in range(1, swaps + 1):
            weights = ("first.pth", "second.pth")[number % 2]
            swap(own, models, weights)
            # From the command's end on, every request gets the new weights.
            digest = models.digests[weights]
            assert {ask(own).headers["x-model-digest"] for _ in range(4)} == {digest}
            assert shown(own).digests == {digest}
    assert not sent.failures
    assert sent.unready == 0
    assert sent.answered > swaps
    # Two models of two digests each, and every answer of a digest is that digest's answer.
    assert sent.scores.keys() == {
        (name, each) for name in NAMES for each in models.digests.values()
    }
    assert {len(facts) for facts in sent.scores.values()} == {1}
    first, second = (sent.scores[NAMES[0], each] for each in models.digests.values())
    assert first != second
    assert own.metric("overlock_reloads_total") == swaps
    assert own.metric("overlock_reload_failures_total") == 0
    assert own.metric("overlock_engine_restarts_total") == 0
    assert own.metric("overlock_batch_size_count", 'model="moths"') > 0
    own.wait_for(lambda: len(own.children(ENGINE)) == 1)
    own.wait_for(lambda: f"Generation {swaps} has ended." in own.log)
    # Files of one generation, and metrics of the places that two take turns in.
    (folder,) = runtime.glob("overlock-*")
    assert sorted(path.suffix for path in folder.glob("engine-*")) == [
        ".flight",
        ".measured",
        ".sock",
    ]
    assert len(list(folder.glob("models-*"))) == 1
    assert len(list((folder / "metrics").glob("counter_*"))) == 5


def refused(service: RunningService, reason: str) -> None:
    """Reload in vain."""
    before, failures = shown(service), service.metric("overlock_reload_failures_total")
    outcome = reload()
    assert outcome.returncode == 1
    assert reason in outcome.stderr
    after = shown(service)
    assert (after.generation, after.digests) == (before.generation, before.digests)
    assert after.reload_error is not None
    assert reason in after.reload_error
    assert service.metric("overlock_reload_failures_total") == failures + 1
    assert reason in service.log
    assert service.get("/readyz").status_code == 200
    assert ask(service).headers["x-model-digest"] in before.digests
    assert len(service.children(ENGINE)) == 1


def test_a_reload_that_cannot_be_leaves_what_serves(
    models: Models, service: RunningService
) -> None:
    served = shown(service).digests
    other = models.other_than(served)
    models.file.write_text("[birds\n")
    refused(service, "is not valid TOML")
    models.name("third.pth")
    refused(service, "third.pth")
    models.name(other, f'sha256 = "{min(served)}"\n')
    refused(service, "the SHA-256 of")
    (models.file.parent / "half.pth").write_bytes(
        (models.file.parent / other).read_bytes()[:40_000]
    )
    models.name("half.pth")
    refused(service, "half.pth")
    swap(service, models, other)
    assert shown(service).reload_error is None


def new_engine(service: RunningService, old: int) -> int:
    """Wait for the engine that is started beside the old one."""
    service.wait_for(lambda: len(service.children(ENGINE)) == 2)
    (new,) = set(service.children(ENGINE)) - {old}
    return new


def test_an_engine_that_is_killed_in_the_middle_of_a_swap_fails_it(
    models: Models, service: RunningService
) -> None:
    (old,) = service.children(ENGINE)
    served = shown(service).digests
    other = models.other_than(served)
    models.name(other)
    with traffic(service, 10) as sent:
        running = start_reload()
        os.kill(new_engine(service, old), signal.SIGKILL)
        outcome = running.wait_for_outcome()
    assert outcome.returncode == 1
    assert "cannot start (killed by SIGKILL)" in outcome.stderr
    assert not sent.failures
    assert service.children(ENGINE) == [old]
    assert shown(service).digests == served


def test_an_old_engine_that_is_killed_in_the_middle_of_a_swap_loses_nothing(
    models: Models, service: RunningService
) -> None:
    (old,) = service.children(ENGINE)
    served = shown(service).digests
    other = models.other_than(served)
    models.name(other)
    with traffic(service, 10) as sent:
        running = start_reload()
        new_engine(service, old)
        os.kill(old, signal.SIGKILL)
        assert running.wait_for_outcome().returncode == 0
    assert not sent.failures
    assert shown(service).digests == {models.digests[other]}
    service.wait_for(lambda: len(service.children(ENGINE)) == 1)


def test_an_http_worker_that_is_killed_in_the_middle_of_a_swap_joins_in(
    models: Models, service: RunningService
) -> None:
    (old,) = service.children(ENGINE)
    served = shown(service).digests
    other = models.other_than(served)
    models.name(other)
    running = start_reload()
    new_engine(service, old)
    os.kill(service.children("service.web.process")[0], signal.SIGKILL)
    assert running.wait_for_outcome().returncode == 0
    service.wait_for(lambda: len(service.children("service.web.process")) == 2)
    service.wait_for(lambda: service.children(ENGINE) != [old])
    digest = models.digests[other]
    assert {ask(service).headers["x-model-digest"] for _ in range(8)} == {digest}


def test_reloads_at_once_all_succeed(models: Models, service: RunningService) -> None:
    before = shown(service)
    models.name(models.other_than(before.digests))
    with traffic(service, 10) as sent:
        outcomes = [each.wait_for_outcome() for each in [start_reload() for _ in range(3)]]
    assert [outcome.returncode for outcome in outcomes] == [0, 0, 0]
    assert not sent.failures
    # The first one, and one for both that came while it was under way.
    assert shown(service).generation - before.generation in {1, 2}
    service.wait_for(lambda: len(service.children(ENGINE)) == 1)


def test_sigterm_during_a_reload_ends_everything(own: RunningService, runtime: Path) -> None:
    (old,) = own.children(ENGINE)
    running = start_reload()
    new = new_engine(own, old)
    with ThreadPoolExecutor(3) as clients:
        waiting = [clients.submit(classify, own, SLOW) for _ in range(3)]
        own.wait_for(lambda: own.metric("overlock_pending_work_seconds") > 0)
        assert own.stop() == 0
        assert {each.result().status_code for each in waiting} == {200}
    outcome = running.wait_for_outcome()
    assert outcome.returncode == 1
    assert "the service has ended" in outcome.stderr
    assert not [pid for pid in (old, new) if Path(f"/proc/{pid}").exists()]
    assert list(runtime.iterdir()) == []


def test_a_request_that_was_begun_before_a_swap_is_answered_by_the_engine_that_has_it(
    models: Models, service: RunningService
) -> None:
    models.name(models.other_than(shown(service).digests))
    with ThreadPoolExecutor(12) as clients:
        running = start_reload()
        (old,) = service.children(ENGINE)
        new_engine(service, old)
        # Each takes a second on the device; the swap is done before the last one is.
        waiting = [clients.submit(classify, service, SLOW, "?timeout=60") for _ in range(12)]
        assert running.wait_for_outcome().returncode == 0
        digests = [each.result().headers["x-model-digest"] for each in waiting]
    assert set(digests) <= set(models.digests.values())
    service.wait_for(lambda: service.children(ENGINE) != [old])


def test_an_engine_that_is_started_again_has_the_models_of_its_generation(
    models: Models, service: RunningService
) -> None:
    served = shown(service).digests
    models.name(models.other_than(served))  # without a reload
    (engine,) = service.children(ENGINE)
    os.kill(engine, signal.SIGKILL)
    service.wait_for(lambda: service.children(ENGINE) not in ([], [engine]))
    service.wait_ready()
    assert {ask(service).headers["x-model-digest"]} == served
