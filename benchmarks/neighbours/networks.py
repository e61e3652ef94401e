"""Networks that are compared on a CPU, with the accuracy that their papers state. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass

OURS = "overlock-service"
TRANSFORMERS = "transformers 5.24.0"
KECAM = "kecam 1.4.3, its PyTorch backend"


@dataclass(frozen=True)
class Network:
    """A classifier of ImageNet-1K.

    Attributes:
        title: as papers write it.
        family: networks of one paper, a line of the plot.
        accuracy: top-1 on ImageNet-1K at 224x224, percent, trained on it alone.
        gmacs: multiply-adds of an image, 10^9, by the paper.
        paper: where accuracy and gmacs are stated.
        library: whose code runs.
    """

    title: str
    family: str
    accuracy: float
    gmacs: float
    paper: str
    library: str


OVERLOCK_PAPER = "arXiv:2502.20087"
CONVNEXT_PAPER = "arXiv:2201.03545"

NETWORKS = {
    "overlock_xt": Network("OverLoCK-XT", "OverLoCK", 82.7, 2.7, OVERLOCK_PAPER, OURS),
    "overlock_t": Network("OverLoCK-T", "OverLoCK", 84.2, 5.6, OVERLOCK_PAPER, OURS),
    "overlock_s": Network("OverLoCK-S", "OverLoCK", 84.8, 9.9, OVERLOCK_PAPER, OURS),
    "overlock_b": Network("OverLoCK-B", "OverLoCK", 85.1, 17.1, OVERLOCK_PAPER, OURS),
    "convnext_t": Network("ConvNeXt-T", "ConvNeXt", 82.1, 4.5, CONVNEXT_PAPER, TRANSFORMERS),
    "convnext_b": Network("ConvNeXt-B", "ConvNeXt", 83.8, 15.4, CONVNEXT_PAPER, TRANSFORMERS),
    "moganet_b": Network("MogaNet-B", "MogaNet", 84.3, 9.9, "arXiv:2211.03295", KECAM),
}

WITHOUT_A_LIBRARY = (
    "UniRepLKNet-T (83.2 %, arXiv:2311.15599) is not in the table: timm 1.0.31, transformers "
    "5.24.0, kecam 1.4.3 and openmixup 0.2.9 do not have it. Nor do we write it ourselves."
)


def is_ours(network: str) -> bool:
    """Return whether the network is of ``model.zoo``."""
    return NETWORKS[network].library == OURS
