"""Ray Serve: one deployment with dynamic request batching.

Source: Ray Serve's pages on dynamic request batching and on performance tuning (its throughput
mode, ``max_ongoing_requests`` above the batch size). Decoding and the device have threads of their
own, so that neither holds up the replica's event loop.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

os.environ["RAY_SERVE_THROUGHPUT_OPTIMIZED"] = "1"  # read when ray is imported
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from ray import serve

from benchmarks.serving.peer_work import BATCH_WINDOW_SECONDS, answer, chosen_decoder
from benchmarks.serving.simulated_device import MAX_BATCH_SIZE, run_batch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from starlette.requests import Request

decode = chosen_decoder()

MAX_ONGOING_REQUESTS = 256


@serve.deployment(max_ongoing_requests=MAX_ONGOING_REQUESTS)
class Classifier:
    """Takes the raw body."""

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Decode, wait for the batch, answer."""
        pixels = await asyncio.to_thread(decode, await request.body())
        scores = await self.scores(pixels)
        return answer(scores)

    @serve.batch(  # type: ignore[untyped-decorator]
        max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=BATCH_WINDOW_SECONDS
    )
    async def scores(self, images: list[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Classify a batch."""
        return await asyncio.to_thread(run_batch, images)


def main() -> None:
    """Serve ``/`` until SIGTERM."""
    parser = argparse.ArgumentParser(description="Ray Serve with the simulated device.")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    ray.init(num_cpus=2, include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": arguments.port})
    serve.run(Classifier.bind())  # type: ignore[attr-defined]
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
