"""The batch sizes that fit into a device's memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from model.inference.predictor import Predictor


def fitting_batch_sizes(
    predictor: Predictor, batch_sizes: Sequence[int], input_sizes: Sequence[tuple[int, int]]
) -> tuple[int, ...]:
    """Prepare and run every batch; return the sizes that fit, rising, or none.

    The largest goes first, so that the allocator reserves memory for it.

    Args:
        predictor: on its device.
        batch_sizes: rising.
        input_sizes: heights and widths.

    Raises:
        CompileError: if the compiler fails.
    """
    for count in range(len(batch_sizes), 0, -1):
        try:
            for size in reversed(batch_sizes[:count]):
                for input_size in input_sizes:
                    predictor.prepare((size, *input_size))
                    predictor.dry_run((size, *input_size))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        else:
            return tuple(batch_sizes[:count])
    return ()
