"""A call of the protocol as it arrived, by REST or gRPC, and the images in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from service.api.errors import InvalidParameterError, MalformedRequestError
from service.api.queries import MAX_IMAGES, TiledQuery
from service.images.preparation import ImagePreparer, PreparedImage, TiledImage
from service.link.messages import ModelInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

Parameter = bool | int | float | str

INPUT = "image"
"""Name of every model's only input."""

LENGTH_BYTES = 4
"""Bytes of the length before each element of a binary BYTES tensor."""

ALLOWED = f"1 to {MAX_IMAGES}"
"""Numbers of images that a call may have, for errors."""

MAX_SHOWN = 80
"""Characters of a caller's text that an error repeats."""


@dataclass(frozen=True)
class InputTensor:
    """An input of a call.

    Attributes:
        name: as the caller gives it.
        datatype: the same.
        shape: the same.
        values: elements of BYTES, an encoded image each; or the decoded images of UINT8, flat.
    """

    name: str
    datatype: str
    shape: Sequence[int]
    values: Sequence[bytes] | NDArray[np.uint8]


@dataclass(frozen=True)
class InferenceCall:
    """A call for inference.

    Attributes:
        id: the caller's, repeated in the answer; may be empty.
        parameters: of the whole call.
        inputs: its tensors.
        outputs: names of those asked for; empty for the model's first ones.
    """

    id: str
    parameters: Mapping[str, Parameter]
    inputs: Sequence[InputTensor]
    outputs: Sequence[str]


@dataclass(frozen=True)
class CallImage:
    """An image of a call, still to be decoded.

    Attributes:
        preparer: decodes it.
        content: an encoded image, or the pixels of a decoded one, (H, W, 3).
    """

    preparer: ImagePreparer
    content: bytes | NDArray[np.uint8]

    def prepared(self, model: ModelInfo) -> PreparedImage:
        """Make a model's input of it."""
        if isinstance(self.content, bytes):
            return self.preparer.prepare(self.content, None, model)
        return self.preparer.prepare_pixels(self.content, model)

    def in_tiles(self, query: TiledQuery, model: ModelInfo) -> TiledImage:
        """Make a model's input of each pass over it."""
        if isinstance(self.content, bytes):
            return self.preparer.prepare_tiles(self.content, None, query, model)
        return self.preparer.prepare_pixel_tiles(self.content, query, model)


def split_elements(raw: memoryview, name: str) -> list[bytes]:
    """Split a binary BYTES tensor into its elements.

    Args:
        raw: each element with its length before it, in four bytes, little endian.
        name: of the tensor, for errors.

    Raises:
        MalformedRequestError: if the lengths do not fill the bytes.
    """
    elements: list[bytes] = []
    start = 0
    while start < len(raw):
        end = start + LENGTH_BYTES
        length = int.from_bytes(raw[start:end], "little")
        if end > len(raw) or end + length > len(raw):
            raise MalformedRequestError(
                f"Input {name}: element {len(elements)} ends behind the tensor's {len(raw)} bytes. "
                f"Each element of a binary BYTES tensor has its length before it, in "
                f"{LENGTH_BYTES} bytes, little endian."
            )
        elements.append(bytes(raw[end : end + length]))
        start = end + length
        if len(elements) > MAX_IMAGES:
            raise _wrong_count(f"more than {MAX_IMAGES}")
    return elements


def datatype_of(name: str, datatype: str) -> str:
    """Return the type of an input if it can be taken.

    Raises:
        MalformedRequestError: if it cannot, or there is no input of the name.
    """
    if name != INPUT:
        raise MalformedRequestError(f"There is no input {name[:MAX_SHOWN]!r}; there is {INPUT}.")
    if datatype not in {"BYTES", "UINT8"}:
        raise MalformedRequestError(
            f"Input {INPUT} is {datatype[:MAX_SHOWN]!r}; it has to be BYTES (encoded images) or "
            "UINT8 (decoded ones)."
        )
    return datatype


def images_of(call: InferenceCall, preparer: ImagePreparer) -> list[CallImage]:
    """Return the images of a call, still to be decoded.

    Raises:
        MalformedRequestError: if its inputs are not one tensor of images.
        InvalidParameterError: if there are too many, or none.
        ImageTooLargeError: if decoded images are too large.
    """
    if len(call.inputs) != 1:
        raise MalformedRequestError(f"The call has {len(call.inputs)} inputs; send {INPUT} alone.")
    (tensor,) = call.inputs
    datatype_of(tensor.name, tensor.datatype)
    if any(side < 0 for side in tensor.shape):
        raise _wrong_shape(tensor, "no dimension can be negative")
    if tensor.datatype == "BYTES":
        count = len(tensor.values)
        if list(tensor.shape) != [count]:
            reason = f"with {count} elements it has to be [{count}]"
            raise _wrong_shape(tensor, reason if count else f"it has 0 elements; send {ALLOWED}")
        _check_count(count)
        return [CallImage(preparer, element) for element in tensor.values]
    return _decoded_images(tensor, preparer)


def _decoded_images(tensor: InputTensor, preparer: ImagePreparer) -> list[CallImage]:
    shape = tuple(tensor.shape)
    if len(shape) != 4 or shape[3] != 3:
        raise _wrong_shape(tensor, "decoded images have [images, height, width, 3]")
    _check_count(shape[0])
    preparer.limits.check(shape[2], shape[1])
    expected = shape[0] * shape[1] * shape[2] * shape[3]
    if len(tensor.values) != expected:
        raise _wrong_shape(tensor, f"that is {expected} values, and it has {len(tensor.values)}")
    pixels = np.asarray(tensor.values, np.uint8).reshape(shape)
    return [CallImage(preparer, image) for image in pixels]


def _check_count(images: int) -> None:
    if not 1 <= images <= MAX_IMAGES:
        raise _wrong_count(str(images))


def _wrong_count(images: str) -> InvalidParameterError:
    return InvalidParameterError(f"Input {INPUT} has {images} images; it has to be {ALLOWED}.")


def _wrong_shape(tensor: InputTensor, reason: str) -> MalformedRequestError:
    shape = str(list(tensor.shape[:8]))[:MAX_SHOWN]
    return MalformedRequestError(f"Input {INPUT} has the shape {shape}: {reason}.")
