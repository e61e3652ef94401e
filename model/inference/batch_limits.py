"""The batch sizes that fit into a device's memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from model.inference.predictor import Predictor
from model.kernels.gpu.failures import summary

logger = logging.getLogger(__name__)


def fitting_batch_sizes(
    predictor: Predictor, batch_sizes: Sequence[int], input_sizes: Sequence[tuple[int, int]]
) -> tuple[int, ...]:
    """Prepare and run every batch; return the sizes that fit, rising, or none.

    A batch that PyTorch cannot run, since an operator has a limit of its own, does not fit either,
    unless it is the smallest.

    The largest goes first, so that the allocator reserves memory for it.

    Args:
        predictor: on its device.
        batch_sizes: rising.
        input_sizes: heights and widths.

    Raises:
        CompileError: if the compiler fails.
        DeviceLostError: if the device does not work any more.
        RuntimeError: if the smallest batch fails for another reason than its memory.
    """
    for count in range(len(batch_sizes), 0, -1):
        try:
            for size in reversed(batch_sizes[:count]):
                for input_size in input_sizes:
                    predictor.prepare((size, *input_size))
                    predictor.dry_run((size, *input_size))
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError):
                if size == batch_sizes[0]:
                    raise
                logger.warning("Batches of %d images do not fit: %s", size, summary(error))
            # The recordings of larger batches would hold their memory for ever.
            predictor.start_over()
            torch.cuda.empty_cache()
        else:
            return tuple(batch_sizes[:count])
    return ()
