from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from service.processes import child
from service.processes.child import START_ATTEMPTS, Child, StartFailedError
from service.processes.heartbeat import CONFIGURATION_EXIT_CODE, DEVICE_EXIT_CODE

SAY = "import os, sys; say = lambda line: os.write(int(sys.argv[-1]), line + b'\\n');"
"""Begins a child's code: say(line) writes to the pipe for announcements."""

ANNOUNCE = SAY + "say(b'{}')"
ANNOUNCE_AND_WAIT = SAY + "say(b'{\"n\": 1}'); sys.stdin.readline()"


class Watched:
    """A child that runs a line of Python, how often it announced itself, and how often it died."""

    def __init__(self, folder: Path, code: str, *, established: bool = True) -> None:
        self.announced = 0
        self.died = 0
        self.child = Child("test", ("-c", code), {}, folder, self._count, self._count_death)
        self.child.established = established
        self.keeping = asyncio.create_task(self.child.keep_running())

    def _count_death(self) -> None:
        self.died += 1

    def _count(self) -> None:
        self.announced += 1

    async def wait_for(self, announcements: int) -> None:
        async with asyncio.timeout(20):
            while self.announced < announcements:
                await asyncio.sleep(0.01)

    async def stop(self, grace_seconds: float = 10.0) -> None:
        await self.child.stop(grace_seconds=grace_seconds, hurry=asyncio.Event())
        await asyncio.wait_for(self.keeping, 10)


async def test_a_child_that_ends_is_replaced(tmp_path: Path) -> None:
    watched = Watched(tmp_path, ANNOUNCE)
    await watched.wait_for(3)
    assert watched.died >= 2
    await watched.stop()


async def test_a_request_replaces_none_of_a_childs_facts(tmp_path: Path) -> None:
    say = 'say(b\'{"n": 1}\'); say(b\'{"request": {"name": "birds"}}\')'
    watched = Watched(tmp_path, f"{SAY} {say}; sys.stdin.readline()")
    requests: list[dict[str, object]] = []
    watched.child.on_request = requests.append
    async with asyncio.timeout(20):
        while not requests:
            await asyncio.sleep(0.01)
    assert requests == [{"name": "birds"}]
    assert watched.child.facts == {"n": 1}
    assert watched.announced == 1
    await watched.stop()


async def test_of_a_child_that_ended_the_metrics_are_kept_and_not_their_reserved_space(
    tmp_path: Path,
) -> None:
    count = (
        f"{SAY} os.environ['PROMETHEUS_MULTIPROC_DIR'] = {str(tmp_path)!r};"
        "from service import metrics; metrics.ENGINE_RESTARTS.inc(); metrics.IN_FLIGHT.inc();"
        "say(b'{}')"
    )
    watched = Watched(tmp_path, count)
    await watched.wait_for(3)
    await watched.stop()
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(tmp_path))  # type: ignore[no-untyped-call]
    assert (registry.get_sample_value("overlock_engine_restarts_total") or 0) >= 2
    assert registry.get_sample_value("overlock_requests_in_flight") is None
    sizes = [entry.stat().st_size for entry in os.scandir(tmp_path)]
    assert min(sizes) > 0
    assert max(sizes) < 16_000


async def test_a_stopped_child_is_not_replaced(tmp_path: Path) -> None:
    watched = Watched(tmp_path, ANNOUNCE_AND_WAIT)
    await watched.wait_for(1)
    assert watched.child.facts == {"n": 1}
    await watched.stop()
    assert watched.announced == 1


async def test_a_child_that_does_not_end_is_killed_after_the_grace_time(tmp_path: Path) -> None:
    watched = Watched(tmp_path, f"{ANNOUNCE}; import time; time.sleep(60)")
    await watched.wait_for(1)
    await watched.stop(grace_seconds=0.1)


async def test_a_child_stopped_while_it_is_started_ends_too(tmp_path: Path) -> None:
    watched = Watched(tmp_path, ANNOUNCE_AND_WAIT)
    await asyncio.sleep(0)  # the spawning has begun
    await watched.stop()


@pytest.mark.parametrize("exit_code", [CONFIGURATION_EXIT_CODE, 1, 0])
async def test_a_child_that_ends_by_itself_before_the_service_was_ready_is_not_replaced(
    tmp_path: Path, exit_code: int
) -> None:
    watched = Watched(tmp_path, f"raise SystemExit({exit_code})", established=False)
    with pytest.raises(StartFailedError):
        await asyncio.wait_for(watched.keeping, 20)
    assert watched.died == 0


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", f"sys.exit({DEVICE_EXIT_CODE})"])
async def test_a_child_that_is_killed_before_the_service_was_ready_is_tried_a_few_times(
    tmp_path: Path, end: str
) -> None:
    watched = Watched(tmp_path, f"import os, sys; {end}", established=False)
    with pytest.raises(StartFailedError):
        await asyncio.wait_for(watched.keeping, 20)
    assert watched.died == START_ATTEMPTS - 1


async def test_after_the_service_was_ready_every_child_is_replaced_and_counted(
    tmp_path: Path,
) -> None:
    watched = Watched(tmp_path, f"raise SystemExit({CONFIGURATION_EXIT_CODE})")
    async with asyncio.timeout(20):
        while watched.died < 3:
            await asyncio.sleep(0.01)
    await watched.stop()


async def test_what_a_child_prints_is_not_taken_for_an_announcement(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = f"print('not JSON', flush=True); {ANNOUNCE_AND_WAIT}"
    watched = Watched(tmp_path, code)
    await watched.wait_for(1)
    assert watched.child.facts == {"n": 1}
    await watched.stop()
    assert "not JSON" in capfd.readouterr().err


@pytest.mark.slow
async def test_a_child_that_leaves_a_process_behind_is_replaced(tmp_path: Path) -> None:
    # What it started may keep the pipe for announcements open.
    code = f"{ANNOUNCE}; import time\nif os.fork() == 0: time.sleep(5)"
    watched = Watched(tmp_path, code)
    started = time.monotonic()
    await watched.wait_for(2)
    assert time.monotonic() - started < 4
    await watched.stop()


async def test_a_childs_modules_do_not_come_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    watched = Watched(tmp_path, f"import queue; {ANNOUNCE_AND_WAIT}", established=False)
    await watched.wait_for(1)
    await watched.stop()


async def test_a_child_that_falls_silent_is_killed_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "SILENCE_SECONDS", 0.05)
    watched = Watched(tmp_path, ANNOUNCE_AND_WAIT)
    await watched.wait_for(2)
    await watched.stop()


@pytest.mark.slow
async def test_a_child_that_beats_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "SILENCE_SECONDS", 2.0)  # beats come every 0.1 s
    beating = f"{ANNOUNCE}\nimport time\nwhile True: say(b''); time.sleep(0.1)"
    watched = Watched(tmp_path, beating)
    await watched.wait_for(1)
    done, _ = await asyncio.wait({watched.keeping}, timeout=5.0)
    assert not done
    assert watched.announced == 1
    await watched.stop(grace_seconds=0.1)


async def test_a_child_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, failures = asyncio.create_subprocess_exec, iter([OSError("no memory")])

    async def failing_once(*arguments: object, **options: object) -> object:
        for failure in failures:
            raise failure
        return await start(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", failing_once)
    watched = Watched(tmp_path, ANNOUNCE_AND_WAIT)
    await watched.wait_for(1)
    await watched.stop()
