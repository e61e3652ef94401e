"""The JSON that callers get, as the OpenAPI document shows it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from service.settings import MAX_TIMEOUT_SECONDS


class _Query(BaseModel):
    """Parameters that every task takes; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid")

    timeout: float | None = Field(
        default=None,
        gt=0,
        le=MAX_TIMEOUT_SECONDS,
        description="Seconds, from the request's arrival, after which nobody waits any more.",
    )


class ClassifyQuery(_Query):
    """Parameters of ``POST /v1/classify``."""

    top_k: int = Field(
        default=5, ge=1, description="How many classes to answer with; up to all of them."
    )


class Prediction(BaseModel):
    """One class and how likely the network holds it."""

    class_id: int
    label: str
    score: float = Field(description="Softmax over all classes, 0 to 1.")


class ImageFacts(BaseModel):
    """The decoded image, upright."""

    width: int = Field(description="Pixels.")
    height: int = Field(description="Pixels.")
    frames: int = Field(description="Above 1 for an animation, whose first frame was used.")


class Timing(BaseModel):
    """Where the time went."""

    decode_seconds: float
    queue_seconds: float
    inference_seconds: float
    render_seconds: float
    batch_size: int = Field(description="Requests that shared the forward pass.")

    def stages(self) -> dict[str, float]:
        """Return the stages in order, seconds."""
        return {
            "decode": self.decode_seconds,
            "queue": self.queue_seconds,
            "inference": self.inference_seconds,
            "render": self.render_seconds,
        }

    def server_timing(self) -> str:
        """Return the value of a Server-Timing header, in milliseconds as its standard wants."""
        return ", ".join(
            f"{stage};dur={seconds * 1000:.3f}" for stage, seconds in self.stages().items()
        )


class ClassifyResponse(BaseModel):
    """The answer to ``POST /v1/classify``."""

    model: str
    predictions: list[Prediction] = Field(description="Best first.")
    image: ImageFacts
    timing: Timing


class InputGeometry(BaseModel):
    """What the network gets to see."""

    width: int
    height: int


class ShapeCost(BaseModel):
    """The learnt cost of a batch of n images of one shape: fixed + n * per_image."""

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
    input: InputGeometry
    device: str
    device_name: str
    dtype: str
    compiled: bool
    batch_sizes: list[int]
    costs: list[ShapeCost]


class ModelsResponse(BaseModel):
    """The answer to ``GET /v1/models``."""

    models: list[ServedModel]


class ProblemDocument(BaseModel):
    """The answer to everything that fails: RFC 9457 problem+json."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
