"""Processes that are killed, and services that are stopped and replaced under load."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from support.fault_clients import HARMLESS, SLOW, classify, load
from support.running_service import RunningService

Start = Callable[..., RunningService]


def owner(service: RunningService, connection: HTTPConnection) -> int | None:
    """Return the HTTP worker that has accepted a connection."""
    _, client_port = connection.sock.getsockname()
    ends = f":{service.port:04X} 0100007F:{client_port:04X} "
    lines = Path("/proc/net/tcp").read_text().splitlines()
    # The kernel lists a connection twice, with other timers, if others come or go while it is read.
    (inode,) = {line.split()[9] for line in lines if ends in line}
    socket = f"socket:[{inode}]"
    for pid in service.children("service.web.process"):
        descriptors = Path(f"/proc/{pid}/fd").iterdir()
        if any(str(descriptor.readlink()) == socket for descriptor in descriptors):
            return pid
    return None


def alive(connection: HTTPConnection) -> bool:
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().read() == b'{"status":"alive"}'
    except OSError:
        return False


def in_flight(service: RunningService) -> float:
    """Return the number of requests in flight, without the scrape itself."""
    return service.metric("overlock_requests_in_flight") - 1


def test_a_killed_http_worker_takes_only_its_own_connections_along() -> None:
    with RunningService(http_workers=2, segment_model="off") as service:
        connections: dict[HTTPConnection, int | None] = {}
        while len(connections) < 40 or len(set(connections.values())) < 2:
            connection = HTTPConnection("127.0.0.1", service.port, timeout=60)
            assert alive(connection)
            connections[connection] = owner(service, connection)
            assert len(connections) < 1000
        killed = next(iter(connections.values()))
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        service.wait_for(lambda: len(service.children("service.web.process")) == 2)
        assert service.metric("overlock_http_worker_restarts_total") == 1
        assert service.metric("overlock_engine_restarts_total") == 0
        for connection, pid in connections.items():
            assert alive(connection) == (pid != killed)
            connection.close()
        assert [classify(service).status_code for _ in range(10)] == [200] * 10


def test_what_waits_for_a_killed_http_worker_never_gets_to_the_device(start_faulty: Start) -> None:
    with start_faulty(max_batch_size=1) as service, ThreadPoolExecutor(6) as clients:
        lost = [clients.submit(classify, service, SLOW) for _ in range(6)]
        service.wait_for(lambda: service.metric("overlock_queue_requests") == 5)
        (worker,) = service.children("service.web.process")
        os.kill(worker, signal.SIGKILL)
        assert all(isinstance(each.exception(), httpx.TransportError) for each in lost)
        service.wait_ready()
        service.wait_for(lambda: service.metric("overlock_queue_requests") == 0)
        dropped = service.metric("overlock_requests_cancelled_total", 'place="engine"')
        assert dropped >= 3  # at a second each; two may run before the engine knows
        assert classify(service).status_code == 200
        ran = service.metric("overlock_batch_size_count")
        assert ran + dropped == len(lost) + 1


def test_sigterm_under_load_answers_all_that_was_accepted_and_leaves_nothing_behind(
    start_faulty: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with start_faulty() as service, ThreadPoolExecutor(24) as clients:
        children = service.children("service.engine.process") + service.children(
            "service.web.process"
        )
        assert len(list(tmp_path.glob("overlock-*"))) == 1
        colours = [SLOW] + [HARMLESS] * 23
        waiting = [clients.submit(classify, service, colour) for colour in colours]
        # On a busy machine the first ones have their answers when the last ones arrive.
        service.wait_for(
            lambda: sum(each.done() for each in waiting) + in_flight(service) == len(waiting)
        )
        assert service.stop() == 0
        assert [future.result().status_code for future in waiting] == [200] * len(waiting)
        assert "Traceback" not in service.log
    assert list(tmp_path.glob("overlock-*")) == []
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []


def test_until_the_last_answer_a_stopping_service_refuses_in_words_and_is_alive(
    start_faulty: Start,
) -> None:
    with start_faulty() as service, ThreadPoolExecutor(1) as client:
        waiting = client.submit(classify, service, SLOW)
        service.wait_for(lambda: in_flight(service) == 1)
        service.process.send_signal(signal.SIGTERM)
        service.wait_for(lambda: service.get("/readyz").status_code == 503)
        refused = classify(service, HARMLESS)
        assert not waiting.done()
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["detail"] == "The service is stopping."
        assert service.get("/livez").status_code == 200
        assert in_flight(service) == 1
        assert waiting.result().status_code == 200
        assert service.process.wait(30) == 0


def test_an_http_worker_that_gets_sigterm_answers_what_it_has_and_is_replaced(
    faulty: RunningService,
) -> None:
    (worker,) = faulty.children("service.web.process")
    with ThreadPoolExecutor(1) as client:
        waiting = client.submit(classify, faulty, SLOW)
        faulty.wait_for(lambda: in_flight(faulty) == 1)
        os.kill(worker, signal.SIGTERM)
        assert waiting.result().status_code == 200
    faulty.wait_for(lambda: worker not in faulty.children("service.web.process"))
    faulty.wait_ready()


def test_no_request_fails_when_one_service_takes_the_place_of_another_under_load(
    start_faulty: Start, faulty: RunningService
) -> None:
    new = faulty
    with (
        start_faulty() as old,
        load(old, clients=4) as clients,
        ThreadPoolExecutor(1) as last,
    ):
        clients.wait_for_answers(8)
        # As an orchestrator does it: first the traffic, and when that is gone, the service.
        clients.move_to(new)
        under_way = last.submit(classify, old, SLOW)
        old.wait_for(lambda: in_flight(old) == 1)
        assert old.stop() == 0
        assert under_way.result().status_code == 200
        clients.wait_for_answers(8)
    assert clients.failures == {}


def test_sighup_ends_no_process_but_engines_that_others_have_replaced(
    faulty: RunningService,
) -> None:
    (engine,), workers = (
        faulty.children("service.engine.process"),
        faulty.children("service.web.process"),
    )
    for pid in (engine, *workers):
        os.kill(pid, signal.SIGHUP)
    assert classify(faulty).status_code == 200
    assert faulty.children("service.engine.process") == [engine]
    reloads = faulty.metric("overlock_reloads_total")
    faulty.process.send_signal(signal.SIGHUP)
    faulty.wait_for(lambda: faulty.metric("overlock_reloads_total") == reloads + 1)
    faulty.wait_for(lambda: len(faulty.children("service.engine.process")) == 1)
    assert faulty.children("service.web.process") == workers
    assert faulty.children("service.engine.process") != [engine]
    assert classify(faulty).status_code == 200


def test_sighup_during_the_start_does_not_end_it() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunningService, "wait_ready", lambda _: None)
        service = RunningService(segment_model="off")
    service.wait_for(lambda: "starting: " in service.log)
    service.process.send_signal(signal.SIGHUP)
    with service:
        assert service.metric("overlock_http_worker_restarts_total") == 0


def test_engines_that_die_before_their_first_line_are_counted(
    faulty: RunningService, faulty_starts: Path
) -> None:
    restarts_before = faulty.metric("overlock_engine_restarts_total")
    faulty_starts.write_text("2")
    (engine,) = faulty.children("service.engine.process")
    os.kill(engine, signal.SIGKILL)
    faulty.wait_for(lambda: faulty.metric("overlock_engine_restarts_total") == restarts_before + 3)
    faulty.wait_ready()
    assert classify(faulty).status_code == 200


def test_an_engine_that_always_dies_ends_the_start(
    start_faulty: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = tmp_path / "dying"
    dying.write_text("100")
    monkeypatch.setenv("FAULTY_STARTS_FILE", str(dying))
    service = start_faulty()
    assert service.process.wait(60) == 2
    assert "engine-0 cannot start (killed by SIGKILL)" in service.log
    service.__exit__()


def test_after_the_first_ready_an_engine_is_tried_until_its_files_are_back(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"shape {number}\n" for number in range(10)))
    settings = {"segment_model": "off", "classify_labels": str(labels)}
    with RunningService(**settings, default_timeout_seconds=60) as service:
        text = labels.read_text()
        labels.unlink()
        (engine,) = service.children("service.engine.process")
        os.kill(engine, signal.SIGKILL)
        service.wait_for(lambda: "labels.txt cannot be read" in service.log)
        assert "killed by SIGKILL" in service.log
        labels.write_text(text)
        assert classify(service).status_code == 200


def test_requests_in_flight_are_answered_at_once_when_the_supervisor_is_killed(
    start_faulty: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with start_faulty(max_batch_size=1) as service, ThreadPoolExecutor(6) as clients:
        children = [
            *service.children("service.engine.process"),
            *service.children("service.web.process"),
        ]
        waiting = [clients.submit(classify, service, SLOW) for _ in range(5)]
        service.wait_for(lambda: in_flight(service) == len(waiting))
        with socket.create_connection(("127.0.0.1", service.port)) as upload:
            upload.sendall(
                b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
                b"Content-Length: 1000\r\n\r\nx"
            )
            service.wait_for(lambda: in_flight(service) == len(waiting) + 1)
            killed_at = time.monotonic()
            service.process.kill()
            answers = [each.result() for each in waiting]
            upload.settimeout(10)
            assert upload.recv(4096).startswith(b"HTTP/1.1 503 ")
        assert time.monotonic() - killed_at < 5
        assert {answer.status_code for answer in answers} <= {200, 503}
        assert any(answer.status_code == 503 for answer in answers)
        for answer in answers:
            if answer.status_code == 503:
                assert answer.json()["type"].endswith("not-ready")
                assert answer.headers["retry-after"]
        assert len(children) == 2
        until = time.monotonic() + 20
        while any(Path(f"/proc/{pid}").exists() for pid in children):
            assert time.monotonic() < until
            time.sleep(0.05)
    assert list(tmp_path.glob("overlock-*")) == []
