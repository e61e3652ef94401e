"""Good TIFF files: every layout, compression and colour that is supported."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from support.image_references import (
    HEIGHT,
    WIDTH,
    GoodSample,
    Pixels,
    from_cmyk,
    from_lab,
    from_ycbcr,
    grey_rgb,
    on_white,
    palette,
    ramp,
    scene,
)
from support.image_writers import encoded, tiff_file

Order = Literal["<", ">"]
_Good = Iterator[tuple[str, GoodSample]]


def good_tiff_images() -> _Good:
    """Yield each sample's name and the sample."""
    for group in (_layouts, _colours, _16_bits):
        yield from group()


def _layouts() -> _Good:
    rgb, grey = scene(), ramp(256).astype(np.uint8)

    def saved(pixels: Any, expected: Pixels, tolerance: int = 0, **options: Any) -> GoodSample:
        return GoodSample(encoded(pixels, "TIFF", **options), "image/tiff", expected, tolerance)

    yield "tiff-rgb", saved(rgb, rgb)
    yield "tiff-grey", saved(grey, grey_rgb(grey))
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        yield f"tiff-{compression}", saved(rgb, rgb, compression=compression)
    yield "tiff-predictor", saved(rgb, rgb, compression="tiff_lzw", tiffinfo={317: 2})
    yield "tiff-jpeg", saved(rgb, rgb, tolerance=4, compression="jpeg", quality=95)
    # The colours at half the resolution.
    luma = Image.fromarray(rgb).convert("YCbCr")
    yield "tiff-jpeg-ycbcr", saved(luma, rgb, tolerance=8, compression="jpeg", quality=95)
    bits = ramp(2).astype(bool)
    black_and_white = Image.fromarray(bits)
    for compression in ("raw", "group3", "group4"):
        name = f"tiff-1-{compression}"
        yield name, saved(black_and_white, grey_rgb(bits * 255), compression=compression)
    many_strips = [row.tobytes() for row in rgb]
    tags: dict[int, Sequence[int]] = {258: [8] * 3, 262: [2], 277: [3], 278: [1]}
    body = tiff_file(WIDTH, HEIGHT, many_strips, tags)
    yield "tiff-strips", GoodSample(body, "image/tiff", rgb)
    padded = np.pad(rgb, ((0, 8), (0, 0), (0, 0)))
    tiles = [
        padded[r : r + 16, c : c + 16].tobytes() for r in range(0, 32, 16) for c in range(0, 32, 16)
    ]
    tags = {258: [8] * 3, 262: [2], 277: [3], 322: [16], 323: [16]}
    body = tiff_file(WIDTH, HEIGHT, tiles, tags, offsets_tag=324)
    yield "tiff-tiles", GoodSample(body, "image/tiff", rgb)
    body = tiff_file(
        WIDTH, HEIGHT, [zlib.compress(tile) for tile in tiles], {**tags, 259: [8]}, offsets_tag=324
    )
    yield "tiff-tiles-deflate", GoodSample(body, "image/tiff", rgb)
    more = [Image.fromarray(255 - rgb), Image.fromarray(grey)]
    body = encoded(rgb, "TIFF", save_all=True, append_images=more)
    yield "tiff-pages", GoodSample(body, "image/tiff", rgb, frames=3)


def _tiff_of(
    stored: NDArray[Any], tags: Mapping[int, Sequence[int]], *, order: Order = "<"
) -> bytes:
    """Write (H, W) or (H, W, C) samples of 8 or 16 bits; in planes or deflated, as tags say."""
    samples = 1 if stored.ndim == 2 else stored.shape[2]
    in_order = stored.astype(stored.dtype.newbyteorder(order))
    planes = [in_order[..., plane] for plane in range(samples)] if 284 in tags else [in_order]
    data = [plane.tobytes() for plane in planes]
    if tags.get(259) == [8]:
        data = [zlib.compress(plane) for plane in data]
    common = {258: [stored.dtype.itemsize * 8] * samples, 277: [samples]}
    return tiff_file(WIDTH, HEIGHT, data, {**common, **tags}, order=order)


def _colours() -> _Good:
    def sample(expected: Pixels, stored: NDArray[Any], tolerance: int = 0, **more: Any) -> Any:
        return GoodSample(_tiff_of(stored, **more), "image/tiff", expected, tolerance)

    rgb, levels, alpha = scene(), ramp(256), ramp(256)[:, ::-1]
    byte = levels.astype(np.uint8)
    colours = palette(256)
    colour_map = [int(level) * 256 for level in colours.T.reshape(-1)]
    yield "tiff-white-is-zero", sample(grey_rgb(255 - levels), byte, tags={262: [0]})
    indexed = {262: [3], 320: colour_map}
    yield "tiff-palette", sample(colours[levels], byte, tags=indexed)
    pair = np.stack([levels, alpha], axis=-1).astype(np.uint8)
    expected = on_white(colours[levels], alpha)
    yield "tiff-palette-alpha", sample(expected, pair, tags={**indexed, 338: [2]})
    expected = on_white(grey_rgb(levels), alpha)
    yield "tiff-grey-alpha", sample(expected, pair, tags={338: [2]})
    weakened = np.rint(pair * (alpha[..., None] / 255)).astype(np.uint8)
    weakened[..., 1] = alpha
    # Colours that were multiplied by a small alpha lost their low bits; composited, little shows.
    yield "tiff-grey-premultiplied", sample(expected, weakened, 1, tags={338: [1]})
    rgba = np.concatenate([rgb, alpha[..., None]], axis=-1).astype(np.uint8)
    yield "tiff-rgba", sample(on_white(rgb, alpha), rgba, tags={262: [2], 338: [2]})
    weakened = np.rint(rgba * (alpha[..., None] / 255)).astype(np.uint8)
    weakened[..., 3] = alpha
    expected = on_white(rgb, alpha)
    yield "tiff-rgb-premultiplied", sample(expected, weakened, 2, tags={262: [2], 338: [1]})
    yield "tiff-rgb-planes", sample(rgb, rgb, tags={262: [2], 284: [2]})
    inks = np.concatenate([255 - rgb, byte[..., None] // 2], axis=-1)
    yield "tiff-cmyk", sample(from_cmyk(inks), inks, 1, tags={262: [5]})
    luma = np.stack([levels, 255 - levels // 2, levels // 2 + 40], axis=-1).astype(np.uint8)
    yield "tiff-ycbcr", sample(from_ycbcr(luma), luma, 1, tags={262: [6], 530: [1, 1]})
    lab = np.stack([levels // 2 + 90, levels // 8 - 16, 20 - levels // 8], axis=-1)
    yield "tiff-lab", sample(from_lab(lab), lab.astype(np.uint8), 2, tags={262: [8]})


def _16_bits() -> _Good:
    grey, rgb = ramp(65_536).astype(np.uint16), scene().astype(np.uint16) * 257
    inks = np.concatenate([65_535 - rgb, rgb[..., :1] // 2], axis=-1)
    files: dict[str, tuple[NDArray[Any], Pixels, dict[int, Sequence[int]]]] = {
        "grey": (grey, grey_rgb(grey >> 8), {}),
        "rgb": (rgb, (rgb >> 8).astype(np.uint8), {262: [2]}),
        "cmyk": (inks, from_cmyk(inks >> 8), {262: [5]}),
    }
    deflated: dict[int, Sequence[int]] = {259: [8]}
    orders: dict[str, Order] = {"little": "<", "big": ">"}
    for name, (stored, expected, tags) in files.items():
        tolerance = int(name == "cmyk")
        for order_name, order in orders.items():
            for packing, more in (("raw", {}), ("deflate", deflated)):
                body = _tiff_of(stored, {**tags, **more}, order=order)
                sample = GoodSample(body, "image/tiff", expected, tolerance)
                yield f"tiff-{name}-16-{order_name}-{packing}", sample
    body = _tiff_of(rgb, {262: [2], 284: [2], 259: [8]})
    yield "tiff-rgb-16-planes", GoodSample(body, "image/tiff", (rgb >> 8).astype(np.uint8))
