from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from service.processes import child
from service.processes.child import Child, ConfigurationRefusedError
from service.processes.heartbeat import CONFIGURATION_EXIT_CODE

ANNOUNCE_AND_WAIT = "import sys; print('{\"n\": 1}', flush=True); sys.stdin.read()"


class Watched:
    """A child that runs a line of Python, and how often it announced itself."""

    def __init__(self, folder: Path, code: str, **options: tuple[str, ...]) -> None:
        self.announced = 0
        self.child = Child("test", ("-c", code), {}, folder, self._count, **options)  # type: ignore[arg-type]
        self.keeping = asyncio.create_task(self.child.keep_running())

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
    watched = Watched(tmp_path, "print('{}')")
    await watched.wait_for(3)
    await watched.stop()


async def test_of_a_child_that_ended_the_metrics_are_kept_and_not_their_reserved_space(
    tmp_path: Path,
) -> None:
    count = (
        f"import os; os.environ['PROMETHEUS_MULTIPROC_DIR'] = {str(tmp_path)!r};"
        "from service import metrics; metrics.ENGINE_RESTARTS.inc(); metrics.IN_FLIGHT.inc();"
        "print('{}')"
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
    watched = Watched(tmp_path, "import time; print('{}', flush=True); time.sleep(60)")
    await watched.wait_for(1)
    await watched.stop(grace_seconds=0.1)


async def test_a_child_stopped_while_it_is_started_ends_too(tmp_path: Path) -> None:
    watched = Watched(tmp_path, ANNOUNCE_AND_WAIT)
    await asyncio.sleep(0)  # the spawning has begun
    await watched.stop()


async def test_a_child_that_refuses_its_settings_is_not_restarted(tmp_path: Path) -> None:
    watched = Watched(tmp_path, f"raise SystemExit({CONFIGURATION_EXIT_CODE})")
    with pytest.raises(ConfigurationRefusedError):
        await asyncio.wait_for(watched.keeping, 20)


async def test_a_child_that_falls_silent_is_killed_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "SILENCE_SECONDS", 0.05)
    watched = Watched(tmp_path, ANNOUNCE_AND_WAIT)
    await watched.wait_for(2)
    await watched.stop()


async def test_a_child_that_beats_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "SILENCE_SECONDS", 2.0)  # beats come every 0.1 s
    beating = "import time\nprint('{}', flush=True)\nwhile True: print(flush=True); time.sleep(0.1)"
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


async def test_a_restarted_child_gets_its_restart_options(tmp_path: Path) -> None:
    code = "import sys, json; print(json.dumps({'options': sys.argv[1:]}))"
    watched = Watched(tmp_path, code, restart_options=("--restarted",))
    seen: list[object] = []
    watched.child.on_announcement = lambda: seen.append((watched.child.facts or {})["options"])
    async with asyncio.timeout(20):
        while len(seen) < 2:
            await asyncio.sleep(0.01)
    await watched.stop()
    assert seen[:2] == [[], ["--restarted"]]
