from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from model.config import ClassificationGeometry
from model.images.preprocess import classification_input
from service.api.errors import ImageTooLargeError, ServiceError, UnsupportedMediaError
from service.images import hevc
from service.images.decode import (
    SUPPORTED_MEDIA_TYPES,
    DecodedImage,
    ImageLimits,
    decode_image,
    media_type_format,
)
from service.images.pillow import to_rgb
from support.image_references import grey_rgb, on_white, ramp, scene
from support.image_samples import BadSample, GoodSample, bad_samples, good_samples
from support.image_writers import encoded, exif, tiff_file
from support.undecoded_images import undecoded_images

LIMITS = ImageLimits(max_pixels=50_000_000, max_side=32_768)


def decode(body: bytes, short_side_needed: int | None = None) -> DecodedImage:
    return decode_image(body, content_type=None, limits=LIMITS, short_side_needed=short_side_needed)


@pytest.mark.parametrize("sample", good_samples().values(), ids=good_samples())
def test_file_decodes_to_the_pixels_that_it_means(sample: GoodSample) -> None:
    decoded = decode_image(sample.body, content_type=sample.media_type, limits=LIMITS)
    assert decoded.image.mode == "RGB"
    pixels = np.asarray(decoded.image).astype(int)
    assert pixels.shape == sample.rgb.shape
    assert np.abs(pixels - sample.rgb).max() <= sample.tolerance
    assert (decoded.height, decoded.width, 3) == sample.rgb.shape
    assert decoded.frames == sample.frames


@pytest.mark.parametrize("sample", bad_samples().values(), ids=bad_samples())
def test_bad_file_is_refused_by_a_problem_for_the_caller(sample: BadSample) -> None:
    with pytest.raises(ServiceError) as raised:
        decode_image(sample.body, content_type=sample.media_type, limits=LIMITS)
    assert (raised.value.status, raised.value.slug) == (sample.status, sample.slug)
    assert not any(word in raised.value.detail for word in ("Error", "object at", "unpack", ".py"))


@pytest.mark.parametrize(
    "content_type", [None, "", "application/octet-stream", "image/jpeg", "IMAGE/TIFF; q=1"]
)
def test_bytes_decide_under_any_supported_or_missing_type(content_type: str | None) -> None:
    body = encoded(scene(), "PNG")
    decoded = decode_image(body, content_type=content_type, limits=LIMITS)
    assert (np.asarray(decoded.image) == scene()).all()


@pytest.mark.parametrize(("media_type", "format_name"), SUPPORTED_MEDIA_TYPES.items())
def test_media_type_names_the_format_with_or_without_parameters(
    media_type: str, format_name: str
) -> None:
    assert media_type_format(media_type) == format_name
    assert media_type_format(f" {media_type.upper()} ; charset=binary") == format_name


def test_unregistered_name_of_jpeg_is_understood() -> None:
    assert media_type_format("image/jpg") == "JPEG"


def test_unsupported_type_is_told_what_is_supported() -> None:
    with pytest.raises(UnsupportedMediaError, match=r"image/jxl.*image/jpeg.*image/heic"):
        media_type_format("image/jxl")


@pytest.mark.parametrize(
    ("body", "kind"),
    [pytest.param(body, kind, id=name) for name, body, kind in undecoded_images()],
)
def test_intact_file_of_a_kind_that_is_not_decoded_is_named(body: bytes, kind: str) -> None:
    with pytest.raises(UnsupportedMediaError) as raised:
        decode(body)
    assert kind in raised.value.detail


def test_heic_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hevc, "pi_heif", None)
    for body, content_type in (
        (good_samples()["heic"].body, None),
        (b"no image", "image/heic"),
    ):
        with pytest.raises(UnsupportedMediaError, match=r"pip install 'overlock-service\[heif\]'"):
            decode_image(body, content_type=content_type, limits=LIMITS)
    with pytest.raises(UnsupportedMediaError, match=r"image/avif\.$"):
        media_type_format("image/jxl")


def test_image_at_both_limits_is_decoded() -> None:
    height, width = scene().shape[:2]
    limits = ImageLimits(max_pixels=height * width, max_side=max(height, width))
    decode_image(encoded(scene(), "PNG"), content_type=None, limits=limits)


def test_one_pixel_too_many_is_named_with_the_limit() -> None:
    height, width = scene().shape[:2]
    limits = ImageLimits(max_pixels=height * width - 1, max_side=max(height, width))
    with pytest.raises(ImageTooLargeError, match=f"{width} x {height} .* {height * width - 1} "):
        decode_image(encoded(scene(), "PNG"), content_type=None, limits=limits)


def test_side_too_long_by_one_pixel_is_named_with_the_limit() -> None:
    height, width = scene().shape[:2]
    limits = ImageLimits(max_pixels=height * width, max_side=max(height, width) - 1)
    with pytest.raises(ImageTooLargeError, match=f"{max(height, width) - 1} on a side"):
        decode_image(encoded(scene(), "PNG"), content_type=None, limits=limits)


def test_limit_above_that_of_pillow_is_the_only_one() -> None:
    body = encoded(Image.new("L", (9_500, 9_500), 77), "JPEG")
    limits = ImageLimits(max_pixels=10**8, max_side=10**5)
    decoded = decode_image(body, content_type=None, limits=limits, short_side_needed=224)
    assert (decoded.width, decoded.height) == (9_500, 9_500)


BROKEN_EXIF = {
    "empty": b"Exif\0\0",
    "no-tiff": b"Exif\0\0not a directory",
    "cut-in-the-directory": exif(6)[:20],
    "directory-outside": exif(6).replace(b"\0\0\0\x08", b"\x7f\xff\xff\xff"),
    "orientation-0": exif(0),
    "orientation-9": exif(9),
    "orientation-of-another-type": exif(6).replace(b"\x01\x12\0\x03", b"\x01\x12\0\x02"),
}


@pytest.mark.parametrize("metadata", BROKEN_EXIF.values(), ids=BROKEN_EXIF)
@pytest.mark.parametrize("format_name", ["PNG", "WEBP"])
def test_broken_exif_leaves_the_image_as_stored(format_name: str, metadata: bytes) -> None:
    decoded = decode(encoded(scene(), format_name, lossless=True, exif=metadata))
    assert (np.asarray(decoded.image) == scene()).all()
    assert (decoded.height, decoded.width) == scene().shape[:2]


@pytest.mark.parametrize("metadata", BROKEN_EXIF.values(), ids=BROKEN_EXIF)
def test_broken_exif_in_jpeg_changes_nothing(metadata: bytes) -> None:
    plain = encoded(scene(), "JPEG")
    sloppy = encoded(scene(), "JPEG", exif=metadata)
    assert decode(sloppy).image.tobytes() == decode(plain).image.tobytes()


def test_first_exif_of_jpeg_counts() -> None:
    jpeg = encoded(scene(), "JPEG", exif=exif(6))
    other = exif(3)
    segment = b"\xff\xe1" + struct.pack(">H", len(other) + 2) + other
    assert decode(jpeg[:-2] + segment + jpeg[-2:]).width == scene().shape[0]


def large_photo() -> Image.Image:
    """A smooth image with some noise, 1200 x 900."""
    noise = np.random.default_rng(3).normal(0, 8, (900, 1200, 3))
    smooth = np.asarray(Image.fromarray(scene()).resize((1200, 900), Image.Resampling.BICUBIC))
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("short_side_needed", "reduction"),
    [(50, 8), (56, 8), (57, 4), (112, 4), (113, 2), (225, 2), (226, 1), (900, 1)],
)
def test_jpeg_is_reduced_only_while_twice_the_need_remains(
    short_side_needed: int, reduction: int
) -> None:
    decoded = decode(encoded(large_photo(), "JPEG"), short_side_needed)
    assert decoded.image.size == (-(-1200 // reduction), -(-900 // reduction))
    assert (decoded.width, decoded.height) == (1200, 900)
    assert min(decoded.image.size) >= 2 * short_side_needed or reduction == 1


def test_reduction_hardly_changes_the_input_of_the_network() -> None:
    body = encoded(large_photo(), "JPEG", quality=90)
    geometry = ClassificationGeometry(crop_size=112, crop_fraction=1.0)
    reduced = classification_input(decode(body, geometry.resize_short_side).image, geometry)
    exact = classification_input(decode(body).image, geometry)
    difference = np.abs(reduced.astype(int) - exact)
    # Averages of 4 x 4 pixels, taken in the cosine domain and resized once more.
    assert difference.mean() < 1.0
    assert difference.max() <= 8


def test_without_room_for_a_reduction_the_pixels_are_the_exact_ones() -> None:
    body = encoded(large_photo(), "JPEG")
    assert decode(body, short_side_needed=226).image.tobytes() == decode(body).image.tobytes()


def test_other_formats_are_never_reduced() -> None:
    assert decode(encoded(large_photo(), "BMP"), short_side_needed=8).image.size == (1200, 900)


def test_reduced_jpeg_is_turned_upright() -> None:
    decoded = decode(encoded(large_photo(), "JPEG", exif=exif(6)), short_side_needed=112)
    assert decoded.image.size == (225, 300)
    assert (decoded.width, decoded.height) == (900, 1200)


@pytest.mark.parametrize("name", ["gif-animated", "tiff-pages"])
def test_damage_behind_the_first_frame_does_not_matter(name: str) -> None:
    sample = good_samples()[name]
    if name == "gif-animated":
        body = sample.body[: len(sample.body) * 2 // 3]
    else:
        # The second page's directory starts where the first one says.
        first = int.from_bytes(sample.body[4:8], "little")
        entries = int.from_bytes(sample.body[first : first + 2], "little")
        link = first + 2 + 12 * entries
        body = sample.body[:link] + b"\xf0\xff\xff\x7f" + sample.body[link + 4 :]
    assert (np.asarray(decode(body).image) == sample.rgb).all()


def test_threads_do_not_disturb_each_other() -> None:
    samples = list(good_samples().values())
    with ThreadPoolExecutor(4) as threads:
        decoded = threads.map(decode, [sample.body for sample in samples * 3])
        for sample, result in zip(samples * 3, decoded, strict=True):
            difference = np.abs(np.asarray(result.image).astype(int) - sample.rgb)
            assert difference.max() <= sample.tolerance


def test_damaged_tiff_writes_nothing_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ServiceError):
        decode(tiff_file(9, 9, [b"no deflated data"], {259: [8]}))
    assert capfd.readouterr().err == ""


COLOUR_MODES = {
    "RGB": 0,
    "RGBA": 0,
    "RGBa": 0,
    "RGBX": 0,
    "CMYK": 0,
    # Rounded there, and rounded back.
    "YCbCr": 3,
    "HSV": 6,
}


@pytest.mark.parametrize(("mode", "tolerance"), COLOUR_MODES.items())
def test_opaque_colours_survive_a_mode(mode: str, tolerance: int) -> None:
    rgb = to_rgb(Image.fromarray(scene()).convert(mode))
    assert rgb.mode == "RGB"
    assert np.abs(np.asarray(rgb).astype(int) - scene()).max() <= tolerance


@pytest.mark.parametrize("mode", ["L", "LA", "La", "P", "PA"])
def test_grey_survives_a_mode(mode: str) -> None:
    grey = ramp(256).astype(np.uint8)
    image = Image.fromarray(grey).convert("LA" if mode == "La" else "L").convert(mode)
    assert (np.asarray(to_rgb(image)) == grey_rgb(grey)).all()


def test_black_and_white_stay_so() -> None:
    bits = ramp(2).astype(bool)
    assert (np.asarray(to_rgb(Image.fromarray(bits))) == grey_rgb(bits * 255)).all()


@pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
def test_16_bits_are_scaled_not_clipped(byte_order: str) -> None:
    levels = ramp(65_536).astype(np.uint16)
    mode = {"<u2": "I;16", ">u2": "I;16B"}[byte_order]
    size = levels.shape[1], levels.shape[0]
    image = Image.frombytes(mode, size, levels.astype(byte_order).tobytes())
    assert (np.asarray(to_rgb(image)) == grey_rgb(levels >> 8)).all()


def test_every_opacity_of_every_level_is_rounded_to_the_nearest() -> None:
    level, alpha = np.mgrid[0:256, 0:256]
    pixels = np.stack([level, 255 - level, level // 2, alpha], axis=-1).astype(np.uint8)
    expected = on_white(pixels[..., :3], pixels[..., 3])
    assert (np.asarray(to_rgb(Image.fromarray(pixels))) == expected).all()


def test_rgb_is_not_copied() -> None:
    image = Image.fromarray(scene())
    assert to_rgb(image) is image
