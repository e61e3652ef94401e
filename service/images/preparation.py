"""Preparation of a network's input from a request's body, for the service and the command line.

It knows of a model what its engine offers, and reads no setting of one.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import Image

from model.config import ClassificationGeometry, ScaledGeometry, Task
from model.images.preprocess import (
    classification_input,
    detection_input,
    padded_size,
    segmentation_input,
)
from model.images.tiles import TileGrid, smallest_tile
from model.kernels.cpu.library import cpu_kernels_unsupported_reason
from service.api.errors import InvalidParameterError, UnsupportedMediaError
from service.api.queries import MAX_PASSES, TiledQuery
from service.api.schemas import ImageFacts
from service.images.decode import DecodedImage, ImageLimits, decode_image, format_of
from service.images.forms import image_in_form
from service.images.json_images import image_in_json
from service.images.signatures import SUPPORTED_SIGNATURES
from service.link.messages import InputInfo, ModelInfo, NetworkInput
from service.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

MAX_IMAGE_SIDE = 32_768
"""Longest side of an image, pixels, whatever its area."""


@dataclass(frozen=True)
class PreparedImage:
    """An image, decoded and brought to the network's geometry.

    Attributes:
        network_input: sent to the engine.
        facts: told to the caller.
        decode_seconds: time that the preparation took.
    """

    network_input: NetworkInput
    facts: ImageFacts
    decode_seconds: float

    @property
    def input_bytes(self) -> int:
        """Size of what the engine is sent."""
        return self.network_input.pixels.nbytes


@dataclass(frozen=True)
class TiledImage:
    """A large image, decoded once and brought to the network's geometry pass by pass.

    Attributes:
        grid: of its passes.
        passes: the whole image, then the tiles.
        decode_seconds: time that the preparation took.
    """

    grid: TileGrid
    passes: tuple[PreparedImage, ...]
    decode_seconds: float

    @property
    def input_bytes(self) -> int:
        """Size of what the engines are sent."""
        return sum(each.input_bytes for each in self.passes)


class ImagePreparer:
    """Decodes images and does to them what a model's offer says. Thread-safe.

    Its construction compiles the kernel that resizes a classifier's images, once on a machine and
    in a second or two, so that no request has to wait for it.

    Attributes:
        limits: of the images.

    Raises:
        SettingsError: if there is no folder for compiled kernels.
    """

    def __init__(self, settings: Settings) -> None:
        self.limits = ImageLimits(settings.max_image_pixels, MAX_IMAGE_SIDE)
        reason = cpu_kernels_unsupported_reason(settings.cache_folder / "kernels")
        if reason is not None:
            logger.warning(
                "Images to classify are resized by Pillow, at a tenth of the speed, since %s.",
                reason,
            )

    def prepare(self, body: bytes, content_type: str | None, model: ModelInfo) -> PreparedImage:
        """Find the image in a body, decode it and make a model's input of it.

        Args:
            body: complete.
            content_type: the request's header; None if there is none.
            model: as its engine offers it.

        Raises:
            ServiceError: if the body, its type or its image is rejected.
        """
        started = time.perf_counter()
        # A JPEG may be reduced while it is decoded, down to this short side. None for the dense
        # tasks: their resizing is not antialiased, so a reduced image would give other pixels,
        # and their results are in the pixels of the original.
        crops = model.task is Task.CLASSIFY
        short_side = crop_of(model.input).resize_short_side if crops else None
        decoded = self.decode(body, content_type, short_side)
        original_size = (decoded.height, decoded.width)
        return PreparedImage(
            network_input=_network_input(decoded.image, original_size, model),
            facts=ImageFacts(width=decoded.width, height=decoded.height, frames=decoded.frames),
            decode_seconds=time.perf_counter() - started,
        )

    def prepare_tiles(
        self, body: bytes, content_type: str | None, query: TiledQuery, model: ModelInfo
    ) -> TiledImage:
        """Decode the image in a body once, and make a model's input of each of its passes.

        The image's pixels live no longer than this call.

        Args:
            body: complete.
            content_type: the request's header; None if there is none.
            query: with a tile.
            model: as its engine offers it, of a dense task.

        Raises:
            ServiceError: if the body, its type or its image is rejected.
            InvalidParameterError: if there would be too many passes.
        """
        started = time.perf_counter()
        decoded = self.decode(body, content_type)
        facts = ImageFacts(width=decoded.width, height=decoded.height, frames=decoded.frames)
        return _tiled(decoded.image, facts, query, model, started)

    def prepare_pixel_tiles(
        self, pixels: NDArray[np.uint8], query: TiledQuery, model: ModelInfo
    ) -> TiledImage:
        """Make a model's input of each pass over a decoded image, as ``prepare_pixels`` takes it.

        Raises:
            InvalidParameterError: if there would be too many passes.
        """
        started = time.perf_counter()
        facts = ImageFacts(width=pixels.shape[1], height=pixels.shape[0], frames=1)
        return _tiled(Image.fromarray(pixels), facts, query, model, started)

    def prepare_pixels(self, pixels: NDArray[np.uint8], model: ModelInfo) -> PreparedImage:
        """Make a model's input of a decoded image.

        Args:
            pixels: upright, RGB, (H, W, 3), within the limits.
            model: as its engine offers it.
        """
        started = time.perf_counter()
        height, width = pixels.shape[:2]
        return PreparedImage(
            network_input=_network_input(Image.fromarray(pixels), (height, width), model),
            facts=ImageFacts(width=width, height=height, frames=1),
            decode_seconds=time.perf_counter() - started,
        )

    def decode(
        self, body: bytes, content_type: str | None, short_side_needed: int | None = None
    ) -> DecodedImage:
        """Decode the image in a body; ``decode_image`` explains the short side."""
        upload = find_image(body, content_type)
        return decode_image(
            upload.body,
            content_type=upload.content_type,
            limits=self.limits,
            short_side_needed=short_side_needed,
        )


@dataclass(frozen=True)
class Upload:
    """An encoded image.

    Attributes:
        body: its bytes.
        content_type: its declared media type; None if there is none.
    """

    body: bytes
    content_type: str | None


def _tiled(
    image: Image.Image, facts: ImageFacts, query: TiledQuery, model: ModelInfo, started: float
) -> TiledImage:
    grid = grid_of(facts.height, facts.width, query)
    passes = []
    for region in grid.regions:
        tile = image if region == grid.whole else image.crop(region.corners)
        network_input = _network_input(tile, (region.height, region.width), model)
        passes.append(PreparedImage(network_input, facts, time.perf_counter() - started))
    return TiledImage(grid, tuple(passes), time.perf_counter() - started)


def grid_of(height: int, width: int, query: TiledQuery) -> TileGrid:
    """Lay the tiles that a query asks for over an image.

    Raises:
        InvalidParameterError: if there would be too many passes.
    """
    assert query.tile is not None, "an image in tiles has their size"
    overlap = query.tile_overlap
    grid = TileGrid(height, width, query.tile, overlap)
    if grid.passes > MAX_PASSES:
        least = smallest_tile(height, width, overlap, MAX_PASSES)
        raise InvalidParameterError(
            f"tile is {query.tile}: the image of {width} x {height} pixels would take "
            f"{grid.passes} passes, its tiles and the whole image; at most {MAX_PASSES} are done. "
            f"With this overlap ({overlap:g}) tile={least} would do."
        )
    return grid


def find_image(body: bytes, content_type: str | None) -> Upload:
    """Find the image in a body: the body itself, a form's file, or base64 in JSON.

    A body that begins as an image is one, whatever its type says: curl, for example, declares
    ``application/x-www-form-urlencoded`` for any file. No form and no JSON begins like that.

    Args:
        body: complete.
        content_type: the request's header.

    Raises:
        MalformedRequestError: if the body does not match its content type, has no image, or has
            anything beside it.
        UnsupportedMediaError: if the content type cannot hold an image.
    """
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if format_of(body, SUPPORTED_SIGNATURES):
        return Upload(body, media_type or None)
    if media_type == "multipart/form-data":
        return Upload(*image_in_form(body, content_type or ""))
    if media_type == "application/json":
        return Upload(*image_in_json(body))
    if media_type == "application/x-www-form-urlencoded":
        # curl's default without -H.
        raise UnsupportedMediaError(
            "The content type is application/x-www-form-urlencoded, and the body begins as no "
            "supported image; send a file of an image (curl --data-binary @file), "
            "multipart/form-data or application/json."
        )
    return Upload(body, media_type or None)


def _network_input(
    image: Image.Image, original_size: tuple[int, int], model: ModelInfo
) -> NetworkInput:
    """Resize an upright RGB image as in the evaluation of a model."""
    info = model.input
    channels = len(info.mean)
    match model.task:
        case Task.CLASSIFY:
            pixels = classification_input(image, crop_of(info), channels=channels)
        case Task.SEGMENT:
            square = info.height is not None
            pixels = segmentation_input(image, _scale_of(info), square=square, channels=channels)
        case Task.DETECT:
            geometry = _scale_of(info)
            pixels = detection_input(image, geometry, channels=channels)
            # The engine pads, after it has normalised.
            size = padded_size(pixels.shape[0], pixels.shape[1], geometry.multiple)
            return NetworkInput(pixels, size, original_size)
    return NetworkInput(pixels, (pixels.shape[0], pixels.shape[1]), original_size)


def crop_of(info: InputInfo) -> ClassificationGeometry:
    """Return the geometry of a classifier's input."""
    assert info.height is not None
    assert info.crop_pct is not None
    assert info.interpolation is not None
    return _crop(info.height, info.crop_pct, info.interpolation)


_crop = lru_cache(maxsize=64)(ClassificationGeometry)


def _scale_of(info: InputInfo) -> ScaledGeometry:
    """Return a dense model's geometry; that of square inputs has only its short side."""
    short_side = info.short_side or info.height
    assert short_side is not None
    return ScaledGeometry(short_side, info.long_side or short_side, info.multiple or 1)
