"""Colours as eyes see them: lightness, differences, and what is left without a kind of cones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

VISIONS: dict[str, NDArray[np.float64]] = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
"""What linear red, green and blue look like, by kind of vision, at severity 1.

Source: Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color
Vision Deficiency", IEEE Transactions on Visualization and Computer Graphics 15(6), 2009, table 1.
"""

_XYZ_OF_LINEAR = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)  # IEC 61966-2-1, D65
_KNEE = (6 / 29) ** 3


def cielab(rgb: NDArray[np.floating], vision: str = "normal") -> NDArray[np.float64]:
    """Return CIELAB of sRGB colours as an eye sees them.

    Args:
        rgb: 0 to 255, (..., 3).
        vision: a key of ``VISIONS``.

    Returns:
        Lightness L*, 0 to 100, a* and b*, (..., 3); a distance of 1 can just be seen.

    Source: CIE 15:2004, section 8.2.1.
    """
    encoded = np.asarray(rgb, np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ VISIONS[vision].T, 0, 1)
    xyz = seen @ _XYZ_OF_LINEAR.T / _XYZ_OF_LINEAR.sum(axis=1)  # of white: 1, 1, 1
    x, y, z = np.moveaxis(
        np.where(xyz > _KNEE, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29), -1, 0
    )
    return np.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), axis=-1)
