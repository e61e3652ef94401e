"""Pillow's pixel memory and numpy's as one, through the Arrow C data interface, without a copy.

``numpy.asarray`` of an image packs every pixel into 3 bytes and copies that again, and
``Image.fromarray`` unpacks it once more.

Source: Apache Arrow, the C data interface; Pillow, ``src/libImaging/Arrow.c``.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIXEL_BYTES = 4
"""Bytes of a pixel of an RGB image: red, green, blue and one that is unused."""


STRIP_PIXELS = 1 << 20
"""Pixels copied at a time from an image that is in several blocks: 4 MB."""


class _Array(ctypes.Structure):
    """The interface's ``struct ArrowArray``."""


_Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Array))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]

_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype = ctypes.POINTER(_Array)
_pointer_of.argtypes = [ctypes.py_object, ctypes.c_char_p]


class SeveralBlocksError(Exception):
    """The image is so large that Pillow keeps its rows in several blocks."""


@dataclass(frozen=True)
class PixelMemory:
    """The pixels of an RGB image, row by row without gaps.

    Attributes:
        address: address of the first pixel; valid as long as this object lives.
        row_bytes: length of a row; a pixel has ``PIXEL_BYTES``.
        owner: object that keeps the memory alive.
    """

    address: int
    row_bytes: int
    owner: object


def pixel_memory(image: Image.Image) -> PixelMemory:
    """Find the pixels of an image, to be read only.

    Args:
        image: mode RGB, not empty.

    Raises:
        SeveralBlocksError: if it has more bytes than one of Pillow's blocks, usually 16 MB.
    """
    try:
        _, capsule = image.__arrow_c_array__()
    except ValueError as error:
        raise SeveralBlocksError from error
    (values,) = _pointer_of(capsule, b"arrow_array").contents.children[:1]
    assert values.contents.length == image.width * image.height * PIXEL_BYTES, "rows have no gaps"
    return PixelMemory(values.contents.buffers[1], image.width * PIXEL_BYTES, capsule)


def packed_pixels(
    image: Image.Image, box: tuple[int, int, int, int] | None = None
) -> NDArray[np.uint8]:
    """Copy the pixels of an RGB image, (height, width, 3) uint8.

    Equal to ``numpy.asarray``, which takes ten times as long and twice the memory.

    Args:
        image: mode RGB.
        box: left, top, right and bottom of a part of it; by default all of it.
    """
    left, top, right, bottom = box or (0, 0, image.width, image.height)
    packed = np.empty((bottom - top, right - left, 3), np.uint8)
    try:
        _pack(image, packed, left, top)
    except SeveralBlocksError:
        strip_rows = max(1, STRIP_PIXELS // (right - left))
        for row in range(top, bottom, strip_rows):
            end = min(row + strip_rows, bottom)
            strip = image.crop((left, row, right, end))
            _pack(strip, packed[row - top : end - top], 0, 0)
    return packed


def _pack(image: Image.Image, packed: NDArray[np.uint8], left: int, top: int) -> None:
    memory = pixel_memory(image)
    pixels = ctypes.cast(memory.address, ctypes.POINTER(ctypes.c_uint8))
    shape = (image.height, image.width, PIXEL_BYTES)
    height, width = packed.shape[:2]
    part = np.ctypeslib.as_array(pixels, shape)[top : top + height, left : left + width]
    cv2.cvtColor(part, cv2.COLOR_RGBA2RGB, dst=packed)


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]

_lent: dict[int, tuple[NDArray[Any], NDArray[Any]]] = {}
"""Memory of the images that ``image_over`` has made, by the address of their capsule."""


# Called when an image is gone, and with it its capsule: also while the interpreter ends, so that it
# needs no global and is never freed.
_give_back = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_lent.__delitem__)
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_give_back))


# The interface wants it of every owner; here the capsule is the owner.
_release = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)

_GIVE_BACK = ctypes.cast(_give_back, ctypes.c_void_p).value or 0
_RELEASE = ctypes.cast(_release, ctypes.c_void_p).value or 0
_ONE_PIXEL = Image.new("RGB", (1, 1))


@dataclass(frozen=True)
class _Lent:
    """Pixels as Pillow takes them."""

    capsule: object

    def __arrow_c_array__(self, _: object = None) -> tuple[object, object]:
        return _ONE_PIXEL.__arrow_c_schema__(), self.capsule


def image_over(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return an RGB image whose memory is an array's, which must not change any more.

    Args:
        pixels: (height, width, 4) uint8, contiguous and not empty: red, green, blue and one that is
            unused.
    """
    height, width, _ = pixels.shape
    block = np.empty(24, np.int64)
    base = block.ctypes.data
    # struct ArrowArray of the pixels, that of their bytes, and the lists that both point to.
    bytes_at, byte_buffers_at, buffers_at, children_at = (base + 8 * at for at in (10, 20, 22, 23))
    block[:] = (
        *(height * width, 0, 0, 1, 1, buffers_at, children_at, 0, _RELEASE, 0),
        *(pixels.size, 0, 0, 2, 0, byte_buffers_at, 0, 0, _RELEASE, 0),
        *(0, pixels.ctypes.data, 0, bytes_at),
    )
    capsule = _new_capsule(base, b"arrow_array", _GIVE_BACK)
    _lent[id(capsule)] = (pixels, block)
    return Image.fromarrow(_Lent(capsule), "RGB", (width, height))
