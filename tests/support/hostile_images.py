"""An endless sequence of damaged images for ``/v1/classify``, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator

from support.hostile_requests import HostileRequest
from support.image_mutations import mutations


def hostile_images(seed: int) -> Iterator[HostileRequest]:
    """Yield damaged images for ever."""
    headers = [("Content-Type", "application/octet-stream")]
    for body in mutations(seed):
        yield HostileRequest("/v1/classify", body, headers)
