"""LitServe: one device worker that decodes, batches and predicts, behind its ZeroMQ queue.

Source: LitServe's batching page (``max_batch_size``, ``batch_timeout``) and its advice for more
than a hundred requests a second (``fast_queue``).
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Annotated, Any

import litserve  # type: ignore[import-not-found]
from fastapi import Body

from benchmarks.serving.peer_work import BATCH_WINDOW_SECONDS, answer, chosen_decoder
from benchmarks.serving.simulated_device import MAX_BATCH_SIZE, run_batch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

decode = chosen_decoder()


class Classifier(litserve.LitAPI):  # type: ignore[misc]
    """Takes the raw body."""

    def setup(self, device: str) -> None:
        """Load nothing."""

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """Decode; annotated below, since LitServe looks at the annotation itself."""
        return decode(request)

    def batch(self, inputs: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Leave the images apart, as the device takes them."""
        return inputs

    def predict(self, images: list[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Classify a batch."""
        return run_batch(images)

    def unbatch(self, output: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Leave the scores apart."""
        return output

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        """Make the document."""
        return answer(output)


# LitServe needs types here, not the strings that ``from __future__ import annotations`` makes.
Classifier.decode_request.__annotations__["request"] = Annotated[bytes, Body()]
Classifier.encode_response.__annotations__["return"] = dict[str, Any]


def main() -> None:
    """Serve ``/predict``."""
    parser = argparse.ArgumentParser(description="LitServe with the simulated device.")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    classifier = Classifier(max_batch_size=MAX_BATCH_SIZE, batch_timeout=BATCH_WINDOW_SECONDS)
    server = litserve.LitServer(classifier, accelerator="cpu", fast_queue=True)
    server.run(host="127.0.0.1", port=arguments.port, generate_client_file=False)


if __name__ == "__main__":
    main()
