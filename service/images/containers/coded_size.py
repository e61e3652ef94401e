"""Units of HEVC and AV1 bitstreams, and the sizes that they state.

A decoder allocates memory for these sizes, whatever the container says.

Source: https://www.itu.int/rec/T-REC-H.265, 7.3.2.2 and 7.3.3; https://aomediacodec.github.io/av1-spec,
5.3 and 5.5.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from service.api.errors import InvalidImageError

FIRST_PARAMETERS, SEQUENCE_PARAMETERS, SEQUENCE_HEADER = 32, 33, 1

MAX_UNITS = 100_000
"""Maximum number of units of one bitstream."""

MAX_PREFIX_BITS = 20
"""Most leading zeros of a number in Exp-Golomb code: no size needs more."""


class _Bits:
    """Bits of a unit, high ones first."""

    def __init__(self, data: bytes) -> None:
        self._number, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        """Return the next bits as a number."""
        self._left -= count
        if self._left < 0:
            raise struct.error("the bitstream ends")
        return (self._number >> self._left) & ((1 << count) - 1)

    def take_golomb(self) -> int:
        """Return the next number in Exp-Golomb code."""
        zeros = 0
        while self.take(1) == 0:
            zeros += 1
            if zeros > MAX_PREFIX_BITS:
                raise struct.error("no such size")
        return (1 << zeros) - 1 + self.take(zeros)


def hevc_sizes(units: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    """Yield width and height of each sequence parameter set.

    Raises:
        struct.error: one is truncated.
    """
    for unit in units:
        yield from _hevc_size(unit)


def hevc_units(configuration: bytes, picture: bytes) -> list[bytes]:
    """Return the parameter sets and slices of one picture, without their lengths.

    Args:
        configuration: content of the ``hvcC`` property.
        picture: content of the ``hvc1`` item.

    Raises:
        InvalidImageError: the item is not whole units, or not one picture.
        struct.error, IndexError: the configuration is truncated.
    """
    units = []
    position = 23
    for _ in range(configuration[22]):
        (count,) = struct.unpack_from(">H", configuration, position + 1)
        position += 3
        for _ in range(count):
            (size,) = struct.unpack_from(">H", configuration, position)
            units.append(configuration[position + 2 : position + 2 + size])
            position += 2 + size
    length_bytes = configuration[21] % 4 + 1
    position = 0
    while position < len(picture) and len(units) < MAX_UNITS:
        start = position + length_bytes
        position = start + int.from_bytes(picture[position:start], "big")
        units.append(picture[start:position])
    if position != len(picture):
        raise InvalidImageError("The HEIC file is damaged or truncated: its picture is not whole.")
    firsts = [
        unit
        for unit in units
        if len(unit) > 2 and _kind(unit) < FIRST_PARAMETERS and unit[2] & 0x80
    ]
    if len(firsts) != 1:
        raise InvalidImageError(f"The HEIC file is damaged: an item holds {len(firsts)} pictures.")
    return units


def _kind(unit: bytes) -> int:
    return unit[0] >> 1 & 63


def _hevc_size(unit: bytes) -> Iterator[tuple[int, int]]:
    if len(unit) < 2 or _kind(unit) != SEQUENCE_PARAMETERS:
        return
    # The numbers lie in the first bytes; a 3 behind two zeros is stuffed.
    bits = _Bits(unit[2:256].replace(b"\0\0\3", b"\0\0"))
    bits.take(4)
    layers = bits.take(3)
    bits.take(1 + 96)
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    bits.take(2 * (8 - layers) if layers else 0)
    for has_profile, has_level in present:
        bits.take(88 * has_profile + 8 * has_level)
    bits.take_golomb()
    if bits.take_golomb() == 3:
        bits.take(1)
    yield bits.take_golomb(), bits.take_golomb()


def av1_sizes(configuration: bytes, picture: bytes) -> Iterator[tuple[int, int]]:
    """Yield width and height of each sequence header.

    Args:
        configuration: content of the ``av1C`` property.
        picture: content of the ``av01`` item.

    Raises:
        InvalidImageError: the picture is not whole units.
        struct.error, IndexError: a unit is truncated.
    """
    for data in (configuration[4:], picture):
        position = 0
        for _ in range(MAX_UNITS):
            if position >= len(data):
                break
            header = data[position]
            position += 1 + (header >> 2 & 1)
            size = len(data) - position
            if header >> 1 & 1:
                size, position = _leb128(data, position)
            if position + size > len(data):
                raise InvalidImageError(
                    "The AVIF file is damaged or truncated: its picture is not whole."
                )
            if header >> 3 & 15 == SEQUENCE_HEADER:
                yield _av1_size(_Bits(data[position : position + min(size, 1024)]))
            position += size
        else:
            raise InvalidImageError(f"The AVIF file has more than {MAX_UNITS} units.")


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for place in range(8):
        byte = data[position + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, position + place + 1
    raise struct.error("no such length")


def _av1_size(bits: _Bits) -> tuple[int, int]:
    bits.take(3 + 1)
    if bits.take(1):  # a still picture's short header
        bits.take(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits, has_model = 0, 0
    if bits.take(1):
        bits.take(64)
        if bits.take(1):
            bits.take_golomb()
        has_model = bits.take(1)
        if has_model:
            delay_bits = bits.take(5) + 1
            bits.take(32 + 5 + 5)
    has_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if has_model and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if has_delay and bits.take(1):
            bits.take(4)
