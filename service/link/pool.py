"""The engines of this machine, as an HTTP worker sees them."""

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
        """Whether any engine is ready."""
        return any(client.ready for client in self._clients)

    @property
    def offers(self) -> list[Welcome]:
        """Offers of the engines that have been warm."""
        return [client.offer for client in self._clients if client.offer is not None]

    @property
    def pending_work_seconds(self) -> float:
        """Device time that the requests of the least loaded engine need."""
        return min(client.load[0] for client in self._clients)

    def reject_unreachable_deadline(
        self, task: Task, timeout_seconds: float, *, ahead_seconds: float
    ) -> None:
        """Reject a request that no engine can start before its deadline.

        It is judged by the engines' last reports, and again by the engine that gets it. While no
        engine is ready, nothing is rejected.

        Args:
            task: the task.
            timeout_seconds: time until the deadline.
            ahead_seconds: time until it can be sent, during which the engines' queues shrink.

        Raises:
            DeadlineUnreachableError: if the deadline cannot be met.
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
        """Send an image to the least loaded engine, as ``EngineClient.submit`` does.

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
