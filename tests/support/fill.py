"""Deterministic, library-independent weights and images for numerical parity checks.

Every value is a function of the tensor's name and shape alone: integer hashing in
numpy, no random generator, so it is the same on every platform and version.
"""

import zlib

import numpy as np

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
DETECTOR_GAIN = {"fc_cls": 6.0, "fc_reg": 0.5, "conv_logits": 4.0}
PART = 1 << 14


def hashed(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float64 array in [-1, 1), a pure function of (name, shape).

    splitmix64 of crc32(name) and the flat index.
    """
    n = int(np.prod(shape, dtype=np.int64)) if shape else 1
    first = (np.uint64(zlib.crc32(name.encode())) << np.uint64(32)) + np.uint64(1)
    out = np.empty(n)
    # In place and in parts that stay in the processor's cache: a checkpoint has 10^8 numbers.
    for start in range(0, n, PART):
        part = out[start : start + PART]
        z = np.arange(start, start + part.size, dtype=np.uint64)
        shifted = np.empty_like(z)
        with np.errstate(over="ignore"):
            z += first
            z *= np.uint64(0x9E3779B97F4A7C15)
            for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
                z ^= np.right_shift(z, np.uint64(shift), out=shifted)
                z *= np.uint64(factor)
        z >>= np.uint64(11)
        np.divide(z, 2.0**52, out=part)
        part -= 1.0
    return out.reshape(shape)


def parameter(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of one state_dict entry (float32; int64 zero for num_batches_tracked).

    Nothing is left at an identity: every norm, layer scale, GRN gamma and relative
    position bias moves the output, so a wrong or missing term shows.
    """
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    h = hashed(name, shape)
    if leaf == "running_var":
        v = 1.0 + 0.5 * h
    elif leaf == "running_mean":
        v = 0.2 * h
    elif leaf in ("gamma", "beta"):
        v = 0.3 * h
    elif leaf in ("rpb1", "rpb2"):
        v = 1.0 * h
    elif leaf == "bias":
        v = 0.1 * h
    elif len(shape) == 1:  # a norm's weight
        v = 1.0 + 0.3 * h
    elif len(shape) == 4 and shape[1:] == (1, 1, 1):  # layer scale
        v = 0.6 + 0.3 * h
    else:  # a convolution's or linear layer's weight, unit gain
        v = h * np.sqrt(3.0 / np.prod(shape[1:]))
        # a detector's last layers: confident, separable detections from hashed weights
        v *= next((gain for layer, gain in DETECTOR_GAIN.items() if f"{layer}." in name), 1.0)
    return v.astype(np.float32)


def image(name: str, height: int, width: int) -> np.ndarray:
    """uint8 (height, width, 3): smooth waves with some noise, different in every region."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    out = np.empty((height, width, 3))
    for c in range(3):
        p = hashed(f"{name}/{c}", (6, 4))
        out[..., c] = sum(
            (1 + a) * np.cos(2 * np.pi * (x * (2.5 * fx) / width + y * (2.5 * fy) / height + ph))
            for a, fx, fy, ph in p
        )
    out += 0.6 * hashed(f"{name}/noise", (height, width, 3))
    lo, hi = out.min(), out.max()
    pixels: np.ndarray = np.floor((out - lo) / (hi - lo) * 255.999).astype(np.uint8)
    return pixels


def model_input(images: list[np.ndarray]) -> np.ndarray:
    """float32 (B, 3, H, W): ImageNet-normalised RGB."""
    x = np.stack(images).astype(np.float32) / 255.0
    return np.ascontiguousarray(((x - MEAN) / STD).transpose(0, 3, 1, 2))
