"""The real service by gRPC: workers that share a port, a stop under load, a start that fails."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from model.scenes.scenes import draw_scene
from service.web.grpc import open_inference_pb2 as messages
from support.command_line import overlock
from support.grpc_calls import GrpcClient, infer_request, tensors_of
from support.running_service import CLIENT, RunningService, free_port
from support.scene_files import png

WORKER = "service.web.process"


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    with RunningService(http_workers=2, grpc_port=free_port(), segment_model="off") as service:
        yield service


def address_of(service: RunningService) -> str:
    return service.log.split("gRPC", 1)[1].split()[0]


def channel_to(service: RunningService) -> grpc.aio.Channel:
    """Return a channel with a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.insecure_channel(address_of(service), options)


async def test_the_numbers_are_those_of_v1(service: RunningService) -> None:
    image = png(draw_scene(7).image)
    v1 = CLIENT.post(f"{service.url}/v1/classify", content=image).json()["predictions"]
    async with channel_to(service) as channel:
        found = tensors_of(await GrpcClient(channel).call(infer_request(image)))
    assert found["class_ids"].tolist() == [each["class_id"] for each in v1]
    assert found["scores"].tolist() == pytest.approx([each["score"] for each in v1], abs=1e-7)
    assert [label.decode() for label in found["labels"]] == [each["label"] for each in v1]


async def test_all_workers_listen_on_one_port(service: RunningService) -> None:
    image = png(draw_scene(7).image)
    while not all(f"{name} " in calls_in(service.log) for name in ("http-0", "http-1")):
        async with channel_to(service) as channel:
            await GrpcClient(channel).call(infer_request(image))


def calls_in(log: str) -> str:
    return "\n".join(line for line in log.splitlines() if "ModelInfer" in line)


async def test_statistics_speak_for_all_workers(service: RunningService) -> None:
    counts = set()
    for _ in range(8):
        async with channel_to(service) as channel:
            answer = await GrpcClient(channel).call(messages.ModelStatisticsRequest(name="demo"))
            counts.add(answer.model_stats[0].inference_count)
    assert len(counts) == 1
    assert counts != {0}


async def test_a_worker_that_is_replaced_listens_again(service: RunningService) -> None:
    image = png(draw_scene(7).image)
    before = service.children(WORKER)
    os.kill(before[0], signal.SIGKILL)
    service.wait_for(lambda: "All processes are up again" in service.log)
    (replacement,) = {*service.children(WORKER)} - {*before}
    assert listens(replacement)
    async with channel_to(service) as channel:
        await GrpcClient(channel).call(infer_request(image), wait_for_ready=True)


def listens(pid: int) -> bool:
    return "cygrpc" in Path(f"/proc/{pid}/maps").read_text()


def test_grpc_is_imported_only_where_it_is_served(
    service: RunningService, demo: RunningService
) -> None:
    assert all(map(listens, service.children(WORKER)))
    assert not any(map(listens, demo.children(WORKER)))


@pytest.mark.parametrize("shares", [False, True])
def test_a_port_that_another_program_has_ends_the_start(shares: bool) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = overlock("serve", "--port", "0", "--grpc-port", str(port))
    assert done.returncode == 2
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith("overlock: OVERLOCK_HOST and OVERLOCK_GRPC_PORT")
    assert str(port) in last


async def test_a_stop_answers_what_is_under_way_and_waits_for_no_one_else() -> None:
    image = png(draw_scene(7).image)
    with RunningService(grpc_port=free_port(), segment_model="off") as service:
        async with channel_to(service) as channel:
            client, health = GrpcClient(channel), stub(channel)
            watch = health.Watch(HealthCheckRequest())
            assert (await watch.read()).status == HealthCheckResponse.SERVING
            call = client.start(infer_request(*[image] * 32))
            while not service.metric("overlock_held_bytes"):
                await asyncio.sleep(0.01)
            service.process.send_signal(signal.SIGTERM)
            assert list((await call).outputs[0].shape) == [32, 5]
            assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
        assert service.process.wait(20) == 0
        assert "Traceback" not in service.log


def stub(channel: Any) -> Any:
    return HealthStub(channel)
