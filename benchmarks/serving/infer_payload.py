"""Calls of the Open Inference Protocol with the drawn images, and the checks of their answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.serving.payload import Payload
from service.commands.bench.infer_messages import raw_outputs
from service.commands.bench.protocols import bytes_tensor

CLASS_IDS = "class_ids"
"""The first requested output: INT64, a row an image, the best class first."""

FirstTensor = Callable[[bytes], bytes]


@dataclass(frozen=True)
class InferPayload:
    """A call's images with the best class of each.

    Attributes:
        body: the images as a BYTES tensor.
        class_ids: best class of each image, by the simulated device.
        first_tensor: finds the bytes of an answer's first output.
        media_type: of the body.
    """

    body: bytes
    class_ids: tuple[int, ...]
    first_tensor: FirstTensor
    media_type: str = "application/octet-stream"

    def __str__(self) -> str:
        return f"classes {', '.join(map(str, self.class_ids))}"

    def is_answered_by(self, answer: bytes) -> bool:
        """Return whether the best class of every image is the right one."""
        try:
            found = np.frombuffer(self.first_tensor(answer), "<i8")
        except ValueError:
            return False
        columns, rest = divmod(len(found), len(self.class_ids))
        return columns > 0 and not rest and tuple(found[::columns]) == self.class_ids


def infer_payloads(
    drawn: Sequence[Payload], images: int, first_tensor: FirstTensor
) -> list[InferPayload]:
    """Return as many calls as there are drawn images; each begins with another one.

    Args:
        drawn: images with known classes.
        images: in a call; they repeat if there are more than drawn ones.
        first_tensor: of an answer.

    Raises:
        ValueError: if an image has no known class.
    """
    calls = []
    for first in range(len(drawn)):
        chosen = [drawn[(first + place) % len(drawn)] for place in range(images)]
        known = [each.class_id for each in chosen if each.class_id is not None]
        if len(known) < images:
            raise ValueError("an image without a known class cannot be checked")
        calls.append(
            InferPayload(bytes_tensor([each.body for each in chosen]), tuple(known), first_tensor)
        )
    return calls


def first_tensor_of_rest(answer: bytes) -> bytes:
    """Return the bytes of the first output of an answer with binary tensors.

    Raises:
        ValueError: if it is no such answer, or the first output is not the classes.
    """
    # Latin-1 keeps every byte a character, so that the JSON's end is a position in the answer.
    document, end = json.JSONDecoder().raw_decode(answer.decode("latin-1"))
    try:
        first = document["outputs"][0]
        name, size = first["name"], first["parameters"]["binary_data_size"]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError("no binary tensor") from error
    if name != CLASS_IDS:
        raise ValueError(f"{name} comes first")
    return answer[end : end + size]


def first_tensor_of_grpc(answer: bytes) -> bytes:
    """Return the bytes of the first output of a ``ModelInferResponse``.

    Raises:
        ValueError: if it has none.
    """
    tensors = raw_outputs(answer)
    if not tensors:
        raise ValueError("no raw tensor")
    return tensors[0]
