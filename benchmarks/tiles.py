"""Segmentations of large drawn scenes in tiles, against the whole image alone.

    python -m benchmarks.tiles

A tile is another picture to a network with global context: it sees small things larger, and of
large ones only a part. So there are two kinds of image: one scene as large as the image, whose main
shape no tile holds, and a mosaic of many scenes, each about as large as a tile.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from model.config import SEGMENTERS
from model.evaluation.metrics import SegmentationCounts
from model.heads.label_map import relative_logits
from model.images.preprocess import segmentation_input
from model.images.stitching import WHOLE_WEIGHT, PassLogits, stitched_label_map
from model.images.tiles import TileGrid
from model.inference.predictor import Predictor
from model.scenes.mosaics import draw_mosaic
from model.scenes.scenes import SEGMENT_NAMES, Scene, draw_scene
from model.zoo import create_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED = 520_000
"""Held out: training starts at ``HELD_OUT_SEEDS_END``."""

HEIGHT, WIDTH = 1500, 2000
TILE, OVERLAP = 512, 0.2
WHOLE_WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)
RESULTS = Path("benchmarks/results")


@dataclass
class Kind:
    """One kind of image, and the counts of each way to segment it."""

    name: str
    counts: dict[str, SegmentationCounts] = field(default_factory=dict)
    changed: list[float] = field(default_factory=list)

    def add(self, way: str, found: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Count one image."""
        counts = self.counts.setdefault(way, SegmentationCounts(len(SEGMENT_NAMES)))
        counts.add(found, truth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=12, help="of each kind [12]")
    images = parser.parse_args().images
    torch.set_num_threads(1)
    network = create_model("demo", task="segment", weights="demo")
    predictor = Predictor(network, torch.device("cpu"), torch.float32)
    kinds = Kind("one scene"), Kind("mosaic of 12 scenes")
    for number in range(images):
        measure(predictor, kinds[0], draw_scene(SEED + number, HEIGHT, WIDTH))
        mosaic = draw_mosaic(SEED + 100 + 12 * number, 3, 4, HEIGHT // 3)
        measure(predictor, kinds[1], mosaic)
    write(kinds, images)


def measure(predictor: Predictor, kind: Kind, scene: Scene) -> None:
    grid = TileGrid(HEIGHT, WIDTH, TILE, OVERLAP)
    single, halves = [], []
    for region in grid.regions:
        tile = Image.fromarray(scene.image).crop(region.corners)
        pixels = segmentation_input(tile, SEGMENTERS["demo"].geometry)
        (logits,) = predictor.pixel_logits([pixels], (1, *pixels.shape[:2]))
        assert logits is not None, "the demo's logits are finite"
        single.append(PassLogits(logits.numpy().copy(), (pixels.shape[0], pixels.shape[1])))
        halves.append(PassLogits(relative_logits(logits).numpy(), single[-1].network_size))
    alone = stitched_label_map(TileGrid(HEIGHT, WIDTH, WIDTH, OVERLAP), halves[:1])
    kind.add("whole image alone", alone, scene.label_map)
    for weight in WHOLE_WEIGHTS:
        found = stitched_label_map(grid, halves, whole_weight=weight)
        kind.add(f"tiles, whole image x {weight:g}", found, scene.label_map)
        if weight == WHOLE_WEIGHT:
            exact = stitched_label_map(grid, single, whole_weight=weight)
            kind.changed.append(float((exact != found).mean()))


def write(kinds: tuple[Kind, ...], images: int) -> None:
    lines = [
        f"# Tiles: {images} images of each kind, {WIDTH} x {HEIGHT}, the demo's segmenter",
        "",
        f"`python -m benchmarks.tiles`; tiles of {TILE} pixels, overlap {OVERLAP:g}; held-out "
        "scenes. mIoU and pixel accuracy against the drawn truth, percent.",
        "",
        "| image | passes | mIoU | pixels |",
        "|--|--|--|--|",
    ]
    document: dict[str, object] = {}
    for kind in kinds:
        for way, counts in kind.counts.items():
            metrics = counts.metrics()
            document[f"{kind.name}, {way}"] = metrics
            lines.append(
                f"| {kind.name} | {way} | {metrics['miou']:.1f} | {metrics['pixel_accuracy']:.1f} |"
            )
    changed = {kind.name: float(np.mean(kind.changed)) for kind in kinds}
    lines += ["", "Pixels whose label float16 changes, against float32 logits:", ""]
    lines += [f"- {name}: {1e6 * share:.1f} in a million" for name, share in changed.items()]
    (RESULTS / "tiles.md").write_text("\n".join(lines) + "\n")
    document |= {f"{name}, changed by float16": share for name, share in changed.items()}
    (RESULTS / "tiles.json").write_text(json.dumps(document, indent=2) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
