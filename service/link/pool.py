"""All engines of this machine, as an HTTP worker sees them."""

from __future__ import annotations

import asyncio

from model.config import Task
from service.api.errors import DeadlineUnreachableError, NotReadyError
from service.link.client import EngineClient
from service.link.messages import InferenceResult, NetworkInput, Welcome


class EnginePool:
    """All engines of this machine; a request goes to the one with the least pending work."""

    def __init__(self, clients: list[EngineClient]) -> None:
        self._clients = clients

    @property
    def ready(self) -> bool:
        """Whether any engine is."""
        return any(client.ready for client in self._clients)

    @property
    def offers(self) -> list[Welcome]:
        """What the engines serve that have been warm."""
        return [client.offer for client in self._clients if client.offer is not None]

    @property
    def pending_work_seconds(self) -> float:
        """How long the device with the least work is busy."""
        return min(client.load[0] for client in self._clients)

    def reject_unreachable_deadline(
        self, task: Task, timeout_seconds: float, *, ahead_seconds: float
    ) -> None:
        """Refuse a request that no engine would begin in time, before there is any work with it.

        Args:
            task: what is wanted.
            timeout_seconds: how long the caller waits.
            ahead_seconds: what passes before it can be sent; the engines work on meanwhile.

        Raises:
            DeadlineUnreachableError: by the engines' last reports; what passes here is judged again
                by the engine that it goes to. While none is ready, nothing is known.
        """
        waits = [client.wait_seconds(task) for client in self._clients if client.ready]
        needed_seconds = max(ahead_seconds, min(waits, default=0.0))
        if needed_seconds > timeout_seconds:
            raise DeadlineUnreachableError(
                needed_seconds=needed_seconds, left_seconds=timeout_seconds
            )

    async def run(self) -> None:
        """Keep in touch with all of them, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for client in self._clients:
                    tasks.create_task(client.run())
        finally:
            for client in self._clients:
                client.close()

    async def submit(
        self, task: Task, image: NetworkInput, *, deadline: float, timeout_seconds: float
    ) -> InferenceResult:
        """Have the least loaded engine work on an image; see ``EngineClient.submit``.

        Raises:
            NotReadyError: if no engine has been ready yet.
        """
        candidates = [client for client in self._clients if client.ready] or [
            client for client in self._clients if client.offer is not None
        ]
        if not candidates:
            raise NotReadyError("The engine is still starting.", retry_after_seconds=1.0)
        client = min(candidates, key=lambda client: client.load)
        return await client.submit(task, image, deadline=deadline, timeout_seconds=timeout_seconds)
