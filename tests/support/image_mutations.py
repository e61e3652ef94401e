"""An endless sequence of damaged image files, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

from support.image_samples import good_samples
from support.image_writers import png_chunk


def mutations(seed: int) -> Iterator[bytes]:
    """Yield damaged variants of the good files for ever."""
    chance = random.Random(seed)
    bodies = [sample.body for sample in good_samples().values()]
    while True:
        body = bytearray(chance.choice(bodies))
        for _ in range(chance.choice([1, 1, 2, 4])):
            if len(body) < 4:
                break
            # Headers are at the start, a TIFF file's directory often at the end.
            reach = chance.choice([64, 300, len(body)])
            at = chance.randrange(min(reach, len(body))) * chance.choice([1, 1, -1])
            number = chance.choice([0, 1, 127, 255, 256, 65_535, 2**31 - 1, 2**32 - 1])
            width = chance.choice([1, 2, 4])
            field = (number % 256**width).to_bytes(width, chance.choice(["big", "little"]))
            change = chance.choice(["flip", "set", "cut", "insert", "end"])
            if change == "flip":
                body[at] ^= 1 << chance.randrange(8)
            elif change == "end":
                del body[max(at, 1) :]
            else:
                body[at : at + width * (change != "insert")] = b"" if change == "cut" else field
        damaged = bytes(body)
        yield with_right_checksums(damaged) if chance.random() < 0.8 else damaged


def with_right_checksums(body: bytes) -> bytes:
    """Let damage in a PNG file get past the checksums; other files stay as they are."""
    position, chunks = 8, []
    while body.startswith(b"\x89PNG") and position + 12 <= len(body):
        length = int.from_bytes(body[position : position + 4], "big")
        name = body[position + 4 : position + 8]
        chunks.append(png_chunk(name, body[position + 8 : position + 8 + length]))
        position += 12 + length
    return body[:8] + b"".join(chunks) if chunks else body
