"""torchvision's outputs, with which several heads' tests compare."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from torch import Tensor

from support import torchvision_outputs


@pytest.fixture(params=torchvision_outputs.sources())
def torchvisions(request: pytest.FixtureRequest) -> Mapping[str, Tensor]:
    """Return the stored outputs, then those of the installed torchvision if it loads."""
    return torchvision_outputs.sources()[request.param]
