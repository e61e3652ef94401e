"""The best of many classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def best_classes(scores: NDArray[np.floating[Any]], count: int) -> NDArray[np.intp]:
    """Return the class ids with the highest scores, best first; equal ones by class id.

    Sorts no more than the best: of a thousand classes, five are usually asked for.

    Args:
        scores: one for each class, (classes,), without NaN.
        count: at least 1; all classes, if there are fewer.
    """
    last = max(len(scores) - count, 0)
    candidates = np.flatnonzero(scores >= np.partition(scores, last)[last])
    return candidates[np.argsort(-scores[candidates], kind="stable")][:count]
