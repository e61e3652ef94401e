"""Models that are loaded and unloaded by name, with two HTTP workers, whatever happens then."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from support.fault_clients import SLOW, picture
from support.running_service import CLIENT, RunningService
from support.swapped_models import Models, ask, reload, shown, traffic

Start = Callable[..., RunningService]
pytestmark = pytest.mark.timeout(600)

ENGINE, WORKER = "service.engine.process", "service.web.process"
BOTH = {"birds": ("READY", ""), "moths": ("READY", "")}
BIRDS = {"birds": ("READY", ""), "moths": ("UNAVAILABLE", "unloaded")}


@pytest.fixture(scope="module", autouse=True)
def _others_services_are_not_found() -> Iterator[None]:
    with (
        tempfile.TemporaryDirectory(prefix="control-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TMPDIR", folder)
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


def controlled(start_faulty: Start, models: Models) -> RunningService:
    models.name("first.pth")
    return start_faulty(models_file=str(models.file), http_workers=2, model_control="on")


@pytest.fixture
def own(models: Models, start_faulty: Start, runtime: Path) -> Iterator[RunningService]:
    """A service of the test's own."""
    with controlled(start_faulty, models) as running:
        yield running


@pytest.fixture(scope="module")
def shared(models: Models, start_faulty: Start) -> Iterator[RunningService]:
    with controlled(start_faulty, models) as running:
        yield running


@pytest.fixture
def service(models: Models, shared: RunningService) -> RunningService:
    """A service that others have used, with both models in one generation."""
    models.name("first.pth")
    found = index(shared)
    if found != BOTH or shown(shared).digests != {models.digests["first.pth"]}:
        wrong = [name for name in BOTH if found[name] != BOTH[name]]
        for name in wrong or ["birds"]:
            assert change(shared, "load", name).status_code == 200
    shared.wait_for(lambda: len(shared.children(ENGINE)) == 1)
    return shared


def change(
    service: RunningService, action: str, name: str = "moths", timeout: float = 300
) -> httpx.Response:
    path = f"{service.url}/v2/repository/models/{name}/{action}"
    return CLIENT.post(path, timeout=timeout)


def index(service: RunningService) -> dict[str, tuple[str, str]]:
    """Return state and reason of each model, of which both workers say the same."""
    answers = [CLIENT.post(f"{service.url}/v2/repository/index").json() for _ in range(6)]
    assert all(answer == answers[0] for answer in answers)
    return {model["name"]: (model["state"], model["reason"]) for model in answers[0]}


def beside(service: RunningService, old: int) -> int:
    """Wait for the engine that is started beside the old one."""
    service.wait_for(lambda: len(service.children(ENGINE)) == 2)
    (new,) = set(service.children(ENGINE)) - {old}
    return new


def detail(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["error"])


def test_a_model_goes_and_comes_back_and_the_other_one_loses_no_request(
    models: Models, service: RunningService
) -> None:
    with traffic(service, 5, ["birds"]) as sent:
        assert index(service) == BOTH
        assert change(service, "unload").json() == {}
        assert index(service) == BIRDS
        # From the answer on, no worker sends it anything.
        assert {ask(service, "moths").status_code for _ in range(6)} == {404}
        assert change(service, "unload").status_code == 200
        models.name_each({"birds": "first.pth", "moths": "second.pth"})
        assert change(service, "load").json() == {}
        assert index(service) == BOTH
        digests = {ask(service, "moths").headers["x-model-digest"] for _ in range(6)}
    assert digests == {models.digests["second.pth"]}
    assert not sent.failures
    assert sent.unready == 0


def test_a_loaded_model_gets_what_its_file_says_now(
    models: Models, service: RunningService
) -> None:
    models.name_each({"birds": "first.pth", "moths": "second.pth", "beetles": "first.pth"})
    assert change(service, "load", "beetles").status_code == 200
    assert index(service) == BOTH | {"beetles": ("READY", "")}
    assert ask(service, "moths").headers["x-model-digest"] == models.digests["second.pth"]
    assert ask(service, "beetles").status_code == 200
    models.name("first.pth")
    assert change(service, "unload", "beetles").status_code == 200
    assert index(service) == BOTH


def test_what_is_unloaded_stays_so_through_reloads_and_crashes(
    models: Models, service: RunningService
) -> None:
    assert change(service, "unload").status_code == 200
    models.name_each({"birds": "first.pth", "moths": "missing.pth"})
    # What is not served is not read.
    assert reload().returncode == 0
    assert index(service) == BIRDS
    generation = shown(service).generation
    service.process.send_signal(signal.SIGHUP)
    service.wait_for(lambda: shown(service).generation == generation + 1)
    service.wait_for(lambda: len(service.children(ENGINE)) == 1)
    (engine,) = service.children(ENGINE)
    os.kill(engine, signal.SIGKILL)
    service.wait_for(lambda: service.children(ENGINE) not in ([], [engine]))
    service.wait_ready()
    worker = service.children(WORKER)[0]
    os.kill(worker, signal.SIGKILL)
    service.wait_for(lambda: len({*service.children(WORKER)} - {worker}) == 2)
    assert index(service) == BIRDS
    assert ask(service, "moths").status_code == 404


def test_a_broken_file_leaves_what_serves_and_the_index_says_why(
    models: Models, service: RunningService
) -> None:
    failures = service.metric("overlock_reload_failures_total")
    whole = (models.file.parent / "first.pth").read_bytes()
    (models.file.parent / "half.pth").write_bytes(whole[:40_000])
    models.name_each({"birds": "first.pth", "moths": "half.pth"})
    reason = detail(change(service, "load"), 422)
    assert "half.pth" in reason
    assert index(service)["moths"] == ("READY", reason)
    assert ask(service, "moths").headers["x-model-digest"] == models.digests["first.pth"]
    assert change(service, "unload").status_code == 200
    reason = detail(change(service, "load"), 422)
    assert index(service)["moths"] == ("UNAVAILABLE", reason)
    assert ask(service, "birds").status_code == 200
    assert service.metric("overlock_reload_failures_total") == failures + 2
    models.file.write_text("[birds\n")
    assert "is not valid TOML" in detail(change(service, "load"), 422)
    models.name("first.pth")
    assert change(service, "load").status_code == 200
    assert index(service) == BOTH


def test_what_cannot_be_asked_for_starts_no_engine(service: RunningService) -> None:
    generation = shown(service).generation
    for action in ("load", "unload"):
        words = detail(change(service, action, "wasps"), 404)
        assert words == "No model 'wasps' is configured; there are birds, moths."
    assert change(service, "unload").status_code == 200
    words = detail(change(service, "unload", "birds"), 422)
    assert "birds is the only model" in words
    assert shown(service).generation == generation + 1


def test_three_callers_at_once_all_get_what_they_ask_for(service: RunningService) -> None:
    generation = shown(service).generation
    changes = (("unload", "moths"), ("load", "moths"), ("load", "birds"))
    with traffic(service, 5, ["birds"]) as sent, ThreadPoolExecutor(3) as callers:
        answers = list(callers.map(lambda each: change(service, *each), changes))
    assert {answer.status_code for answer in answers} == {200}
    assert not sent.failures
    # In the order in which they came, one after the other.
    assert index(service) in (BOTH, BIRDS)
    assert shown(service).generation == generation + 3


def test_requests_that_were_begun_with_a_model_are_answered_when_it_goes(
    service: RunningService,
) -> None:
    def slow() -> httpx.Response:
        return CLIENT.post(
            f"{service.url}/v1/classify?model=moths&timeout=60",
            content=picture(SLOW),
            headers={"Content-Type": "image/png"},
            timeout=90,
        )

    with ThreadPoolExecutor(9) as clients:
        (old,) = service.children(ENGINE)
        going = clients.submit(change, service, "unload")
        beside(service, old)
        # Each takes a second on the device; the change is done before the last one is.
        waiting = [clients.submit(slow) for _ in range(8)]
        assert going.result().status_code == 200
        assert {each.result().status_code for each in waiting} == {200}
    assert ask(service, "moths").status_code == 404


def test_a_new_engine_that_is_killed_fails_the_load_in_words(service: RunningService) -> None:
    (old,) = service.children(ENGINE)
    with ThreadPoolExecutor(1) as callers:
        loading = callers.submit(change, service, "load")
        os.kill(beside(service, old), signal.SIGKILL)
        words = detail(loading.result(), 422)
    assert "cannot start (killed by SIGKILL)" in words
    assert service.children(ENGINE) == [old]


def test_a_caller_that_leaves_cancels_no_load(service: RunningService) -> None:
    generation = shown(service).generation
    with pytest.raises(httpx.ReadTimeout):
        change(service, "load", timeout=0.3)
    service.wait_for(lambda: shown(service).generation == generation + 1)
    assert index(service) == BOTH


def test_an_http_worker_that_is_killed_takes_only_its_own_callers_along(
    service: RunningService,
) -> None:
    def outcome() -> int:
        try:
            return change(service, "unload").status_code
        except httpx.TransportError:
            return 0

    generation = shown(service).generation
    (old,) = service.children(ENGINE)
    with ThreadPoolExecutor(8) as callers:
        waiting = [callers.submit(outcome) for _ in range(8)]
        beside(service, old)
        worker = service.children(WORKER)[0]
        os.kill(worker, signal.SIGKILL)
        assert {each.result() for each in waiting} <= {0, 200}
    service.wait_for(lambda: len({*service.children(WORKER)} - {worker}) == 2)
    service.wait_for(lambda: shown(service).generation == generation + 1)
    assert index(service) == BIRDS
    assert {ask(service, "birds").status_code for _ in range(6)} == {200}


def test_sigterm_during_a_load_answers_its_callers_and_ends_everything(
    own: RunningService, runtime: Path
) -> None:
    (old,) = own.children(ENGINE)
    with ThreadPoolExecutor(3) as callers:
        waiting = [callers.submit(change, own, "load", name) for name in ("birds", "moths")]
        new = beside(own, old)
        under_way = callers.submit(ask, own, "birds")
        assert under_way.result().status_code == 200
        assert own.stop() == 0
        for each in waiting:
            assert detail(each.result(), 503) == "The service is stopping."
    assert not [pid for pid in (old, new) if Path(f"/proc/{pid}").exists()]
    assert list(runtime.iterdir()) == []


def test_callers_of_a_load_are_answered_at_once_when_the_supervisor_is_killed(
    own: RunningService,
) -> None:
    (old,) = own.children(ENGINE)
    with ThreadPoolExecutor(3) as callers:
        waiting = [callers.submit(change, own, "load") for _ in range(3)]
        beside(own, old)
        own.process.kill()
        for each in waiting:
            words = detail(each.result(), 503)
            assert words == "The service has ended before the answer."
    own.process.wait()
