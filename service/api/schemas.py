"""JSON documents of the API, as the OpenAPI document shows them."""

from __future__ import annotations

import operator
from typing import Annotated, Literal

from pydantic import BaseModel, Field, WithJsonSchema


class Prediction(BaseModel):
    """One class and its score."""

    class_id: int
    label: str
    score: float = Field(
        description="0 to 1: softmax over all classes or, of a model with several labels an image "
        "or a single class, the sigmoid of each; `activation` of `/v1/models` says which."
    )


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
    logits: list[float] | None = Field(
        default=None,
        description="Of all classes, in the order of their ids; there with `logits=true`.",
        exclude_if=operator.not_,
    )
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


class EmbedResponse(BaseModel):
    """The answer to ``POST /v1/embed``."""

    model: str
    layer: str
    dimension: int
    normalized: bool
    embedding: list[float]
    image: ImageFacts
    timing: Timing


class Region(BaseModel):
    """A part of the upright image, in its pixels, from its upper left corner."""

    x: float
    y: float
    width: float
    height: float


class ClassMap(BaseModel):
    """One class, and where its logit comes from: the mean of a map is the logit of its look."""

    class_id: int
    label: str
    score: float
    logit: float
    focus: list[list[float]] = Field(description="Of the close look: rows of logits.")
    overview: list[list[float]] | None = Field(
        description="Of the overview before it, by the weights' auxiliary head."
    )


class ExplainResponse(BaseModel):
    """The answer to ``POST /v1/explain``."""

    model: str
    size: list[int] = Field(description="Rows and columns of the maps.")
    region: Region = Field(description="The part of the image that the maps cover.")
    maps: list[ClassMap]
    overview_logits_available: bool
    reason: str | None = Field(description="Why there is no overview; null if there is one.")
    image: ImageFacts
    timing: Timing


InputSource = Literal["file", "checkpoint", "architecture"]
_OfClassifiers = Annotated[InputSource | None, Field(exclude_if=operator.not_)]


class InputSources(BaseModel):
    """Who stated each value: the models file, the checkpoint, or the architecture by default."""

    input_size: _OfClassifiers = Field(
        default=None, description="Of a classifier's width and height."
    )
    crop_pct: _OfClassifiers = None
    interpolation: _OfClassifiers = None
    mean: InputSource
    std: InputSource


class _Normalisation(BaseModel):
    mean: list[float] = Field(
        description="Mean of each channel, of values from 0 to 1; one value of a grey network."
    )
    std: list[float] = Field(description="Standard deviation of each channel.")


class FixedInput(_Normalisation):
    """Every image becomes this size."""

    width: int
    height: int
    crop_pct: float | None = Field(
        default=None,
        description="Part of the resized short side that a classifier's crop keeps.",
    )
    interpolation: Literal["bicubic", "bilinear"] | None = Field(
        default=None, description="Of a classifier's resize."
    )


class ScaledInput(_Normalisation):
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

    name: str = Field(description="What the parameter `model` takes.")
    task: str
    default: bool = Field(description="Whether it answers its task's requests that name no model.")
    architecture: str
    weights: str = Field(description="demo, random, or the name of the file.")
    weights_source: str | None = Field(
        default=None,
        description="The address that they were fetched from, with the commit, version or digest.",
    )
    weights_sha256: str | None
    weights_kind: Literal["ema", "raw"] = Field(
        description="Which weights of the file: their moving average in training, or the last."
    )
    activation: Literal["softmax", "sigmoid"] | None = Field(
        default=None, description="What makes scores of a classifier's logits; null of others."
    )
    demo: bool = Field(description="Whether the weights are the bundled ones for drawn scenes.")
    note: str | None = Field(description="What to know before trusting the answers.")
    classes: list[str]
    input: FixedInput | ScaledInput = Field(description="What is done to an image.")
    input_from: InputSources
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

    generation: int = Field(
        description="Counts the sets of engines, from 1; a reload that succeeds adds one."
    )
    reload_error: str | None = Field(
        default=None,
        description="Why the last reload has changed nothing; null if it did not fail.",
    )
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
