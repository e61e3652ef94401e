"""How large the named networks are. Torch-free; a test counts again.

Source: the paper's table 1 for the multiply-adds.
"""

from __future__ import annotations

from model.config import Task

PARAMETERS: dict[Task, dict[str, int]] = {
    Task.CLASSIFY: {
        "overlock_xt": 16_453_712,
        "overlock_t": 33_467_040,
        "overlock_s": 56_156_452,
        "overlock_b": 94_942_528,
        "demo": 708_754,
    },
    Task.SEGMENT: {
        "upernet_overlock_xt": 44_095_550,
        "upernet_overlock_t": 62_383_310,
        "upernet_overlock_s": 85_105_618,
        "upernet_overlock_b": 124_408_206,
        "demo": 986_659,
    },
    Task.DETECT: {
        "mask_rcnn_overlock_xt": 35_284_324,
        "mask_rcnn_overlock_t": 52_334_248,
        "mask_rcnn_overlock_s": 75_040_172,
        "mask_rcnn_overlock_b": 113_885_400,
        "cascade_mask_rcnn_overlock_xt": 68_212_594,
        "cascade_mask_rcnn_overlock_t": 85_262_518,
        "cascade_mask_rcnn_overlock_s": 107_968_442,
        "cascade_mask_rcnn_overlock_b": 146_813_670,
    },
}
"""With the classes of ImageNet-1K, ADE20K, COCO or the drawn scenes, branches merged, and without
the head that only training needs: as the paper counts."""

GMACS: dict[str, float] = {
    "overlock_xt": 2.7,
    "overlock_t": 5.6,
    "overlock_s": 9.9,
    "overlock_b": 17.1,
}
"""Billions of multiply-adds of the paper's classifiers for an image of 224 by 224."""
