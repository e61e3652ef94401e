from __future__ import annotations

import asyncio

from service.processes.changes import Changes


async def test_a_condition_is_looked_at_whenever_something_changes() -> None:
    changes, facts = Changes(), [0]
    waiting = [
        asyncio.create_task(changes.until(lambda: facts[0] >= 1)),
        asyncio.create_task(changes.until(lambda: facts[0] >= 2)),
    ]
    await asyncio.sleep(0)
    facts[0] = 1
    await asyncio.sleep(0.01)
    assert [task.done() for task in waiting] == [False, False]  # nobody has said so
    for facts[0] in (1, 2):
        changes.note()
        await asyncio.sleep(0.01)
        assert [task.done() for task in waiting] == [True, facts[0] == 2]
    assert not changes._waiting


async def test_what_already_holds_is_not_waited_for() -> None:
    async with asyncio.timeout(1):
        await Changes().until(lambda: True)
