"""Good AVIF and HEIC files."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from support.heif_files import (
    Coded,
    coded_avif,
    coded_of,
    crop,
    heic_sample,
    heif_file,
    mirror,
    rotation,
)
from support.image_references import (
    HEIGHT,
    WIDTH,
    GoodSample,
    Pixels,
    grey_rgb,
    on_white,
    ramp,
    scene,
    upright,
)
from support.image_writers import encoded, exif

_Good = Iterator[tuple[str, GoodSample]]

SHOWN = crop(WIDTH, HEIGHT, WIDTH - 64, HEIGHT - 64)
"""The crop of the files that x265 has made."""


def good_heif_images() -> _Good:
    """Yield each sample's name and the sample."""
    yield from _avif()
    yield from _heic()


def _avif() -> _Good:
    rgb, alpha = scene(), ramp(256).astype(np.uint8)
    exact = {"quality": 98, "subsampling": "4:4:4"}

    def sample(body: bytes, expected: Pixels, tolerance: int = 6, frames: int = 1) -> GoodSample:
        return GoodSample(body, "image/avif", expected, tolerance, frames)

    yield "avif", sample(encoded(rgb, "AVIF", **exact), rgb)
    rgba = np.concatenate([rgb, alpha[..., None]], axis=-1)
    yield "avif-alpha", sample(encoded(rgba, "AVIF", **exact), on_white(rgb, alpha))
    # Pillow writes the orientation as rotation and mirroring, and Exif beside them.
    for orientation in range(1, 9):
        body = encoded(rgb, "AVIF", exif=exif(orientation), **exact)
        yield f"avif-orientation-{orientation}", sample(body, upright(rgb, orientation))
    more = [Image.fromarray(255 - rgb), Image.fromarray(rgb // 2)]
    body = encoded(rgb, "AVIF", save_all=True, append_images=more, **exact)
    yield "avif-animated", sample(body, rgb, frames=3)
    yield from _common("avif", coded_avif(rgb), "image/avif")
    # A tile has at least 64 pixels on a side.
    left = np.pad(rgb, ((0, 64 - HEIGHT), (0, 64 - WIDTH), (0, 0)), "edge")
    tiles = [coded_avif(left), coded_avif(255 - left)]
    whole = np.concatenate([left, 255 - left], axis=1)
    body = heif_file(tiles, grid=(1, 2, 120, 62))
    yield "avif-grid", sample(body, whole[:62, :120])
    body = heif_file(tiles, grid=(1, 2, 120, 62), properties=[crop(30, 40, 2, -4), rotation(1)])
    yield "avif-grid-cropped-and-rotated", sample(body, np.rot90(whole[9:49, 46:76]))


def _common(name: str, coded: Coded, media_type: str, base: tuple[bytes, ...] = ()) -> _Good:
    """Yield what the container says around a picture of the scene."""
    rgb = scene()

    def sample(expected: Pixels, *properties: bytes, metadata: bytes = b"") -> GoodSample:
        body = heif_file([coded], properties=[*base, *properties], exif=metadata)
        return GoodSample(body, media_type, expected, tolerance=6)

    for quarters in range(4):
        yield f"{name}-rotation-{quarters}", sample(np.rot90(rgb, quarters), rotation(quarters))
    yield f"{name}-top-is-bottom", sample(rgb[::-1], mirror(0))
    yield f"{name}-left-is-right", sample(rgb[:, ::-1], mirror(1))
    both = np.rot90(rgb)[:, ::-1]
    yield f"{name}-rotated-and-mirrored", sample(both, rotation(1), mirror(1))
    # Telephones write both; what Exif says was done already.
    turned = sample(np.rot90(rgb, 3), rotation(3), metadata=exif(6))
    yield f"{name}-rotation-and-exif", turned
    yield f"{name}-exif-alone", sample(rgb, metadata=exif(6))


def _heic() -> _Good:
    rgb, grey = scene(), ramp(256).astype(np.uint8)
    coded, alpha = coded_of(heic_sample("scene")), coded_of(heic_sample("ramp"))
    yield "heic", GoodSample(heic_sample("scene"), "image/heic", rgb, tolerance=4)
    yield "heic-grey", GoodSample(heic_sample("ramp"), "image/heif", grey_rgb(grey), tolerance=4)
    body = heif_file([coded], properties=[SHOWN], alpha=alpha)
    yield "heic-alpha", GoodSample(body, "image/heic", on_white(rgb, grey), tolerance=6)
    yield from _common("heic", coded, "image/heic", (SHOWN,))
    grid = (1, 2, 64 + WIDTH, HEIGHT)
    # Both tiles begin with the scene; the second one's is shown.
    body = heif_file([coded] * 2, grid=grid, properties=[crop(WIDTH, HEIGHT, 64)])
    yield "heic-grid", GoodSample(body, "image/heic", rgb, tolerance=4)
    body = heif_file([coded], properties=[SHOWN], brand=b"mif1")
    yield "heic-by-its-container", GoodSample(body, "image/heif", rgb, tolerance=4)
