"""Our kernel resizes to the bits of Pillow, whatever the size, the box and the pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ctypes import CDLL
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from model.config import CLASSIFIERS, ClassificationGeometry, Interpolation
from model.images import resampling
from model.images.pillow_memory import SeveralBlocksError, pixel_memory
from model.images.preprocess import classification_input
from model.images.resampling import PILLOW, STRIP_PIXELS, resize_and_crop
from model.kernels.cpu import library
from model.kernels.cpu.library import cpu_kernels_unsupported_reason

pytestmark = [
    pytest.mark.skipif(
        cpu_kernels_unsupported_reason() is not None, reason=str(cpu_kernels_unsupported_reason())
    ),
    pytest.mark.usefixtures("instructions"),
]

GEOMETRIES = {each.geometry: name for name, each in CLASSIFIERS.items()}
GEOMETRY = CLASSIFIERS["overlock_t"].geometry
sides = st.integers(min_value=1, max_value=700)
interpolations = st.sampled_from([*PILLOW])


def noise(width: int, height: int) -> Image.Image:
    generator = np.random.default_rng(width * 100_003 + height)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def squares(width: int, height: int) -> Image.Image:
    """Return black and white squares of three pixels, where the filter overshoots most."""
    rows, columns = np.indices((height, width)) // 3
    one = ((rows + columns) % 2 * 255).astype(np.uint8)
    return Image.fromarray(np.dstack([one, 255 - one, one]))


@contextmanager
def no_kernels() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "cpu_kernels_unsupported_reason", lambda: "Pillow is wanted")
        yield


def both(resize: Callable[[], NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return what our kernel and what Pillow makes of it."""
    assert cpu_kernels_unsupported_reason() is None
    ours = resize()
    with no_kernels():
        return ours, resize()


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=GEOMETRIES.get)
@given(width=sides, height=sides, draw=st.sampled_from([noise, squares]))
@settings(derandomize=True, deadline=None, max_examples=40)
def test_inputs_are_pillows(
    geometry: ClassificationGeometry,
    width: int,
    height: int,
    draw: Callable[[int, int], Image.Image],
) -> None:
    image = draw(width, height)
    ours, pillows = both(lambda: classification_input(image, geometry))
    assert np.array_equal(ours, pillows)


@given(
    width=st.integers(1, 200),
    height=st.integers(1, 200),
    crop_size=st.integers(32, 130),
    crop_fraction=st.floats(0.1, 1),
    interpolation=interpolations,
)
@settings(derandomize=True, deadline=None, max_examples=100)
def test_inputs_of_any_crop_are_pillows(
    width: int, height: int, crop_size: int, crop_fraction: float, interpolation: Interpolation
) -> None:
    geometry = ClassificationGeometry(crop_size, crop_fraction, interpolation)
    image = squares(width, height)
    ours, pillows = both(lambda: classification_input(image, geometry))
    assert ours.shape == (crop_size, crop_size, 3)
    assert np.array_equal(ours, pillows)


@pytest.mark.parametrize(
    ("width", "height"),
    [
        *[(1, 1), (1, 2), (2, 1), (1, 500), (500, 1), (3, 5000), (9000, 31)],
        *[(224, 224), (235, 235), (235, 300), (300, 235), (236, 1000), (223, 225)],
        *[(640, 480), (480, 640), (1023, 769), (900, 7000), (70, 32_768), (32_768, 70)],
    ],
)
@pytest.mark.parametrize("draw", [noise, squares])
@pytest.mark.parametrize("interpolation", PILLOW)
def test_inputs_of_odd_sizes_are_pillows(
    width: int,
    height: int,
    draw: Callable[[int, int], Image.Image],
    interpolation: Interpolation,
) -> None:
    image, geometry = draw(width, height), replace(GEOMETRY, interpolation=interpolation)
    ours, pillows = both(lambda: classification_input(image, geometry))
    assert np.array_equal(ours, pillows)


@pytest.mark.parametrize(("width", "height"), [(6000, 4000), (32_768, 300), (1200, 9600)])
def test_huge_inputs_are_pillows(width: int, height: int) -> None:
    image = noise(width, height)
    ours, pillows = both(lambda: classification_input(image, GEOMETRY))
    assert np.array_equal(ours, pillows)


@pytest.fixture(scope="module")
def plain_build(tmp_path_factory: pytest.TempPathFactory) -> CDLL:
    """Compile the kernels that resize, alone, for a processor of no special kind.

    Without vectors of its own the compiler takes ten seconds for the others.
    """
    with pytest.MonkeyPatch.context() as patch:
        own = {name: kinds for name, kinds in library._SIGNATURES.items() if "resample" in name}
        patch.setattr(library, "_SIGNATURES", own)
        patch.setattr(library, "_sources", lambda pattern: [*library.SOURCES.glob("resample.c")])
        folder = tmp_path_factory.mktemp("kernels")
        return library._load(library.compile_library(folder / "plain.so", ()))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (300, 235), (641, 479)])
def test_a_processor_of_no_special_kind_makes_the_same_bits(
    width: int, height: int, plain_build: CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resampling, "native_library", lambda: plain_build)
    image = squares(width, height)
    ours, pillows = both(lambda: classification_input(image, GEOMETRY))
    assert np.array_equal(ours, pillows)


@given(
    data=st.data(),
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    interpolation=interpolations,
)
@settings(derandomize=True, deadline=None, max_examples=300)
def test_any_box_and_any_crop_are_pillows(
    data: st.DataObject, width: int, height: int, interpolation: Interpolation
) -> None:
    size = data.draw(st.tuples(st.integers(1, 60), st.integers(1, 60)))
    left, right = data.draw(parts(width))
    top, bottom = data.draw(parts(height))
    crop_left, crop_top = (data.draw(st.integers(0, side - 1)) for side in size)
    crop_right = data.draw(st.integers(crop_left + 1, size[0]))
    crop_bottom = data.draw(st.integers(crop_top + 1, size[1]))
    image = noise(width, height)
    box, crop = (left, top, right, bottom), (crop_left, crop_top, crop_right, crop_bottom)
    ours, pillows = both(lambda: resize_and_crop(image, size, box, crop, interpolation))
    assert ours.shape == (crop_bottom - crop_top, crop_right - crop_left, 3)
    assert np.array_equal(ours, pillows)


def parts(side: int) -> st.SearchStrategy[tuple[float, float]]:
    """Draw a beginning and an end within a side, half a pixel or more apart."""
    return st.floats(0, side - 0.5, width=32).flatmap(
        lambda start: st.tuples(st.just(start), st.floats(start + 0.5, side))
    )


def test_an_image_in_several_blocks_is_read_in_strips_that_do_not_divide_it() -> None:
    image = noise(2401, 1801)
    with pytest.raises(SeveralBlocksError):
        pixel_memory(image)
    assert image.height % (STRIP_PIXELS // image.width)
    ours, pillows = both(lambda: classification_input(image, GEOMETRY))
    assert np.array_equal(ours, pillows)


def test_threads_do_not_disturb_each_other() -> None:
    images = [noise(200 + 37 * each, 300 + 11 * each) for each in range(16)] * 4
    with no_kernels():
        want = [classification_input(image, GEOMETRY) for image in images]
    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(lambda image: classification_input(image, GEOMETRY), images))
    assert all(np.array_equal(*pair) for pair in zip(got, want, strict=True))


def test_the_image_stays_as_it_is() -> None:
    image = noise(300, 400)
    before = image.tobytes()
    classification_input(image, GEOMETRY)
    assert image.tobytes() == before


def test_what_is_not_rgb_is_refused() -> None:
    with pytest.raises(ValueError, match="The image is L, not RGB"):
        classification_input(Image.new("L", (300, 300)), GEOMETRY)


@pytest.mark.parametrize(
    "crop", [(-1, 0, 5, 5), (0, 0, 11, 5), (5, 0, 5, 5), (0, 3, 5, 2), (0, 0, 5, 11)]
)
def test_a_crop_that_reaches_out_is_refused(crop: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="is not within 10 x 10"):
        resize_and_crop(noise(30, 30), (10, 10), (0, 0, 30, 30), crop)
