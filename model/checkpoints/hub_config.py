"""The ``config.json`` that hubs keep beside the weights.

It counts where the layout is a hub's: in a folder that is given as the weights, and beside a file
under one of the two names that hubs give their weights. Beside any other file it can belong to
another run.

Source: timm 1.0, ``save_for_hf`` of ``timm/models/_hub.py``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")
MAX_BYTES = 16 << 20


def hub_config(given: Path, weights: Path) -> Mapping[str, Any]:
    """Return the configuration beside weights; one that cannot be read is ignored, with a log line.

    Args:
        given: the path that was given, of the weights or of their folder.
        weights: path of the weights.
    """
    path = weights.with_name(CONFIG_FILE)
    if (given == weights and weights.name not in WEIGHTS_FILES) or not path.is_file():
        return {}
    try:
        with path.open("rb") as file:
            contents = json.loads(file.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        logger.warning("%s is ignored: %s.", path, error)
        return {}
    return contents if isinstance(contents, dict) else {}
