"""Who is there and who is gone, over a real link."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import zmq
import zmq.asyncio

from service.engine.scheduler import Scheduler
from service.engine.workers import SUSPICIOUS_SECONDS, Work, Workers
from service.link.messages import Hello, Welcome, decode_to_worker, encode
from service.link.server import LinkServer


@asynccontextmanager
async def engine_side(address: Path, gone: list[bytes]) -> AsyncIterator[None]:
    server = LinkServer(address)
    scheduler: Scheduler[Work] = Scheduler(clock=time.monotonic, max_waiting=9, batch_sizes=(1,))
    workers = Workers(server, scheduler, "first", None, on_gone=gone.append)

    async def receive() -> None:
        async for received in server.received():
            workers.heard(received.worker)
            workers.greet(received.worker)

    tasks = [asyncio.create_task(receive()), asyncio.create_task(workers.watch())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server.close()


@asynccontextmanager
async def worker_side(address: Path, name: bytes) -> AsyncIterator[zmq.asyncio.Socket]:
    socket = zmq.asyncio.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.ROUTING_ID, name)
    socket.connect(f"ipc://{address}")
    await socket.send(encode(Hello()))
    try:
        yield socket
    finally:
        socket.close()


async def test_a_worker_that_left_is_found_gone_and_a_silent_one_is_not(tmp_path: Path) -> None:
    gone: list[bytes] = []
    address = tmp_path / "engine.sock"
    async with engine_side(address, gone), worker_side(address, b"silent") as silent:
        async with worker_side(address, b"leaving") as leaving:
            await leaving.recv()
        async with asyncio.timeout(4 * SUSPICIOUS_SECONDS):
            while not gone:
                await asyncio.sleep(0.01)
            # What it is asked with is only what it is told anyway.
            for _ in range(2):
                (header,) = await silent.recv_multipart()
                assert isinstance(decode_to_worker(header), Welcome)
        assert gone == [b"leaving"]
