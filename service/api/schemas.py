"""Query parameters and JSON documents of the API, as the OpenAPI document shows them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

MAX_TIMEOUT_SECONDS = 600.0
"""Longest timeout of a request."""


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


class _Query(EmptyQuery):
    """Parameters that every task takes."""

    timeout: Annotated[
        float | None,
        Field(ge=0.001, le=MAX_TIMEOUT_SECONDS),
        _DECIMAL,
        WithJsonSchema({"type": "number", "minimum": 0.001, "maximum": MAX_TIMEOUT_SECONDS}),
    ] = Field(
        default=None,
        description="Seconds from the request's arrival to its deadline.",
    )


class SegmentQuery(_Query):
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


class DetectQuery(_Query):
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


class Prediction(BaseModel):
    """One class and its probability."""

    class_id: int
    label: str
    score: float = Field(description="Softmax over all classes, 0 to 1.")


class ImageFacts(BaseModel):
    """The decoded image, upright."""

    width: int = Field(description="Pixels.")
    height: int = Field(description="Pixels.")
    frames: int = Field(description="Above 1 for an animation, whose first frame was used.")


class Timing(BaseModel):
    """Durations of the steps of a request."""

    decode_seconds: float
    queue_seconds: float
    inference_seconds: float
    render_seconds: float
    batch_size: int = Field(description="Requests that shared the forward pass.")


class ClassifyResponse(BaseModel):
    """The answer to ``POST /v1/classify``."""

    model: str
    predictions: list[Prediction] = Field(description="Best first.")
    image: ImageFacts
    timing: Timing


class RunLengths(BaseModel):
    """A mask in COCO's compressed run-length encoding."""

    size: list[int] = Field(description="Height and width, pixels.")
    counts: str


class SegmentedClass(BaseModel):
    """One class and the part of the image that it covers."""

    class_id: int
    label: str
    color: str = Field(description="As it is drawn, #rrggbb.")
    pixels: int
    fraction: float = Field(description="Of the image's pixels, 0 to 1.")


class PngMask(BaseModel):
    """The label map as a palette PNG whose pixels are class ids."""

    format: Literal["png"] = "png"
    data: str = Field(description="The file, base64.")


class ClassRunLengths(RunLengths):
    """The pixels of one class."""

    class_id: int


class RleMask(BaseModel):
    """The label map as one mask for each class that occurs."""

    format: Literal["rle"] = "rle"
    data: list[ClassRunLengths]


class SegmentResponse(BaseModel):
    """The answer to ``POST /v1/segment``."""

    model: str
    classes: list[SegmentedClass] = Field(description="Those that occur, the largest first.")
    mask: PngMask | RleMask | None = Field(description="The label map in the image's own size.")
    image: ImageFacts
    timing: Timing


_FOUR_NUMBERS = WithJsonSchema(
    # Not prefixItems, which many generators of clients do not know.
    {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}
)


class Detection(BaseModel):
    """One object: its class, score, box and mask."""

    class_id: int
    label: str
    score: float = Field(description="Softmax over all classes and none, 0 to 1.")
    box: Annotated[tuple[float, float, float, float], _FOUR_NUMBERS] = Field(
        description="x1, y1, x2, y2 in pixels of the image, from its upper left corner."
    )
    mask: RunLengths | None


class DetectResponse(BaseModel):
    """The answer to ``POST /v1/detect``."""

    model: str
    detections: list[Detection] = Field(description="Best first.")
    image: ImageFacts
    timing: Timing


class FixedInput(BaseModel):
    """Every image becomes this size."""

    width: int
    height: int


class ScaledInput(BaseModel):
    """An image keeps its aspect ratio and fits into these sides."""

    short_side: int
    long_side: int
    multiple: int = Field(description="Both sides are multiples of this.")


class ShapeCost(BaseModel):
    """The learnt cost of a batch of n inputs of one size: fixed + n * per_image."""

    width: int
    height: int
    fixed_seconds: float
    per_image_seconds: float


class ServedModel(BaseModel):
    """One model on one device."""

    name: str
    task: str
    weights: str = Field(description="demo, random, or the name of the file.")
    weights_sha256: str | None
    demo: bool = Field(description="Whether the weights are the bundled ones for drawn scenes.")
    note: str | None = Field(description="What to know before trusting the answers.")
    classes: list[str]
    input: FixedInput | ScaledInput = Field(description="Size of the network's input.")
    device: str
    device_name: str
    dtype: str
    dtype_reason: str = Field(description="Why it computes in this type.")
    kernels: str = Field(description="Which kernels run, and the reason if only PyTorch's do.")
    compiled: bool = Field(description="Whether its usual input sizes run compiled.")
    compiled_reason: str = Field(description="Why, or why not.")
    fallbacks: list[str] = Field(
        default=[],
        description="Steps that failed on a GPU and were replaced by a simpler form, with reasons.",
    )
    batch_sizes: list[int] = Field(description="Sizes that batches are padded to.")
    costs: list[ShapeCost]


class ModelsResponse(BaseModel):
    """The answer to ``GET /v1/models``."""

    models: list[ServedModel]


class ProblemDocument(BaseModel):
    """The answer to a request that fails: RFC 9457 problem+json."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str


NOTES = {
    "demo": "Demo weights: a tiny network, trained on drawn scenes. It knows no photographs.",
    "random": "Random weights: the answers mean nothing.",
}
"""Notes by the weights' name; answers made with these carry the header X-Model-Weights."""
