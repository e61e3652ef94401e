"""Mosec: a stage of two decoding processes, then the device with dynamic batching.

Source: Mosec's concept page and examples (stages, ``append_worker``); its own bytes in, JSON out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mosec import Server, Worker  # type: ignore[import-not-found]

from benchmarks.serving.peer_work import BATCH_WINDOW_SECONDS, answer, chosen_decoder
from benchmarks.serving.simulated_device import MAX_BATCH_SIZE, run_batch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

decode = chosen_decoder()

DECODERS = 2


class Decoder(Worker):  # type: ignore[misc]
    """Takes the raw body."""

    def deserialize(self, data: bytes) -> bytes:
        """Leave the body as it is."""
        return data

    def forward(self, data: bytes) -> NDArray[np.uint8]:
        """Decode."""
        return decode(data)


class Device(Worker):  # type: ignore[misc]
    """Takes batches."""

    def forward(self, data: list[NDArray[np.uint8]]) -> list[dict[str, Any]]:
        """Classify."""
        return [answer(scores) for scores in run_batch(data)]


def main() -> None:
    """Serve ``/inference``; Mosec itself reads --port and --timeout."""
    server = Server()
    server.append_worker(Decoder, num=DECODERS)
    server.append_worker(
        Device, max_batch_size=MAX_BATCH_SIZE, max_wait_time=round(BATCH_WINDOW_SECONDS * 1000)
    )
    server.run()


if __name__ == "__main__":
    main()
