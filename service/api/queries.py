"""Query parameters of the API, as the OpenAPI document shows them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

MAX_TIMEOUT_SECONDS = 600.0
"""Longest timeout of a request."""


MAX_MODEL_NAME = 64
"""Most characters of a model's name."""

MAX_IMAGES = 64
"""Most images of a call that takes several."""

MAX_MAPS = 64
"""Most class maps of a request."""

MAX_PASSES = 64
"""Most passes over one image: its tiles, and the whole image."""

MIN_TILE = 256
"""Least side of a tile, pixels of the original image."""

MAX_TILE = 8192
"""Largest side of a tile."""

DEFAULT_OVERLAP = 0.2
"""Part of a tile's side that its neighbour sees too."""

MAX_OVERLAP = 0.5
"""Largest such part."""


def _written_as(pattern: str, form: str) -> BeforeValidator:
    """Of a value's many spellings take one, as a query's text or a Python value."""
    spelling = re.compile(pattern, re.ASCII)

    def check(value: Any) -> Any:
        if isinstance(value, str) and spelling.fullmatch(value) is None:
            raise ValueError(f"write it as {form}")
        return value

    return BeforeValidator(check)


_WHOLE = _written_as(r"\d+", "a whole number, in digits alone")
_DECIMAL = _written_as(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", "a number such as 0.5")
_BOOLEAN = _written_as("true|false", "true or false")


class EmptyQuery(BaseModel):
    """No parameters; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid")


class EmbeddingsQuery(EmptyQuery):
    """Parameters of ``POST /v1/embeddings``, whose body names the model."""

    timeout: Annotated[
        float | None,
        Field(ge=0.001, le=MAX_TIMEOUT_SECONDS),
        _DECIMAL,
        WithJsonSchema({"type": "number", "minimum": 0.001, "maximum": MAX_TIMEOUT_SECONDS}),
    ] = Field(
        default=None,
        description="Seconds from the request's arrival to its deadline.",
    )


class _Query(EmbeddingsQuery):
    """Parameters that every task takes."""

    model: str | None = Field(
        default=None,
        description="The model's name, as `/v1/models` lists it; the task's default model without.",
        max_length=MAX_MODEL_NAME,
    )


class TiledQuery(_Query):
    """Parameters of the tasks that take large images in tiles."""

    tile: Annotated[
        int | None,
        Field(ge=MIN_TILE, le=MAX_TILE),
        _WHOLE,
        WithJsonSchema({"type": "integer", "minimum": MIN_TILE, "maximum": MAX_TILE}),
    ] = Field(
        default=None,
        description="Side of square tiles, pixels of the image: the network sees each as an image "
        "of its own, and the whole image once more. Without it the whole image alone.",
    )
    overlap: Annotated[
        float | None,
        Field(ge=0, le=MAX_OVERLAP),
        _DECIMAL,
        WithJsonSchema({"type": "number", "minimum": 0, "maximum": MAX_OVERLAP}),
    ] = Field(
        default=None,
        description=f"Part of a tile's side that its neighbour sees too; {DEFAULT_OVERLAP} unless "
        "given. Only with tile.",
    )

    @field_validator("overlap")
    @classmethod
    def _is_of_tiles(cls, overlap: float | None, info: ValidationInfo) -> float | None:
        if overlap is not None and info.data.get("tile", 0) is None:
            raise ValueError("there is nothing to overlap without tile")
        return overlap

    @property
    def tile_overlap(self) -> float:
        """The overlap of the tiles: the one given, or the default."""
        return DEFAULT_OVERLAP if self.overlap is None else self.overlap


class SegmentQuery(TiledQuery):
    """Parameters of ``POST /v1/segment``."""

    mask: Literal["png", "rle", "none"] = Field(
        default="png",
        description="How JSON holds the label map: a base64 PNG whose pixels are class ids, COCO's "
        "run lengths for each class, or not at all.",
    )
    view: Literal["labels", "overlay"] = Field(
        default="labels",
        description="What `Accept: image/png` gets: the label map, or the image with the classes "
        "drawn over it.",
    )


class DetectQuery(TiledQuery):
    """Parameters of ``POST /v1/detect``."""

    score_threshold: Annotated[float, _DECIMAL] = Field(
        default=0.05,
        ge=0.05,
        le=1,
        description="Least score of a detection; the network keeps none below 0.05.",
    )
    max_detections: Annotated[int, _WHOLE] = Field(
        default=100, ge=1, le=100, description="Most detections, the best ones."
    )
    masks: Annotated[bool, _BOOLEAN] = Field(
        default=True, description="Whether detections come with their masks."
    )


class ClassifyQuery(_Query):
    """Parameters of ``POST /v1/classify``."""

    top_k: Annotated[int, _WHOLE] = Field(
        default=5, ge=1, description="How many classes to answer with; up to all of them."
    )
    logits: Annotated[bool, _BOOLEAN] = Field(
        default=False, description="Whether the answer holds the logits of all classes too."
    )


class EmbedQuery(_Query):
    """Parameters of ``POST /v1/embed``."""

    layer: str | None = Field(
        default=None,
        max_length=32,
        description="Whose mean is the embedding: head (of a classifier; its default), backbone, "
        "stage1, stage2, stage3, overview, focus3 or focus4.",
    )
    normalize: Annotated[bool, _BOOLEAN] = Field(
        default=False, description="Whether the embedding is scaled to a length of 1."
    )


class ExplainQuery(_Query):
    """Parameters of ``POST /v1/explain``."""

    top_k: Annotated[int, _WHOLE] = Field(
        default=1, ge=1, le=MAX_MAPS, description="How many classes to map, the most likely ones."
    )
    class_id: list[Annotated[int, Field(ge=0), _WHOLE]] = Field(
        default=[], max_length=MAX_MAPS, description="Classes to map instead, one or several."
    )
    view: Literal["focus", "overview", "both"] = Field(
        default="focus",
        description="What `Accept: image/png` gets over the image: the map of the close look, that "
        "of the overview before it, or both side by side; of the first class.",
    )
