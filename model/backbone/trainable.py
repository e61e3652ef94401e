"""The base of all networks: trained until they are folded."""

from __future__ import annotations

from typing import Self

from torch import nn


class Trainable(nn.Module):
    """A network whose folded form refuses to be trained."""

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode.

        Raises:
            ValueError: if a folded network is to be trained, whose norms are gone.
        """
        if mode and not any(isinstance(part, nn.BatchNorm2d) for part in self.modules()):
            raise ValueError(
                "A folded network is for inference only and cannot be trained: create it with "
                "fused=False."
            )
        return super().train(mode)
