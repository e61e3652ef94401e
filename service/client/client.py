"""The synchronous client."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal, Self, TypeVar

import httpx

from service.api.schemas import (
    ClassifyResponse,
    DetectResponse,
    EmbedResponse,
    ExplainResponse,
    SegmentResponse,
    ServedModel,
)
from service.client import requests
from service.client.base import BaseClient
from service.client.requests import Call, ImageFile, Reply, Tiles
from service.client.retries import Pause, Send

Result = TypeVar("Result")


class Client(BaseClient):
    """A client of the service; any number of threads may share one.

    An image is the bytes of a file, or a path; a model is a name among ``models``, by default the
    task's own. Every method raises ``ClientError``: see
    ``service.client.errors``. Close it, or use it in a ``with`` statement.

    A server that sends its answer slowly can stretch the timeout to at most twice its length;
    ``AsyncClient`` is exact.
    """

    _http: httpx.Client

    def _open(self, headers: dict[str, str]) -> None:
        self._http = httpx.Client(headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def classify(
        self, image: ImageFile, *, top_k: int | None = None, model: str | None = None
    ) -> ClassifyResponse:
        """Classify an image; by default the service chooses the number of classes."""
        return self._result(requests.classify(image, top_k, model))

    def segment(
        self,
        image: ImageFile,
        *,
        mask: Literal["png", "rle", "none"] = "png",
        model: str | None = None,
        tile: int | None = None,
        overlap: float | None = None,
    ) -> SegmentResponse:
        """Classify each pixel of an image."""
        return self._result(requests.segment(image, mask, model, Tiles(tile, overlap)))

    def segment_picture(
        self,
        image: ImageFile,
        *,
        view: Literal["labels", "overlay"] = "overlay",
        model: str | None = None,
        tile: int | None = None,
        overlap: float | None = None,
    ) -> bytes:
        """Return a PNG of the label map, on its own or over the image."""
        return self._result(requests.segment_picture(image, view, model, Tiles(tile, overlap)))

    def detect(
        self,
        image: ImageFile,
        *,
        score_threshold: float | None = None,
        max_detections: int | None = None,
        masks: bool = True,
        model: str | None = None,
        tile: int | None = None,
        overlap: float | None = None,
    ) -> DetectResponse:
        """Detect the objects on an image."""
        return self._result(
            requests.detect(
                image,
                score_threshold,
                max_detections,
                model,
                Tiles(tile, overlap),
                masks=masks,
            )
        )

    def detect_picture(
        self,
        image: ImageFile,
        *,
        score_threshold: float | None = None,
        max_detections: int | None = None,
        masks: bool = True,
        model: str | None = None,
        tile: int | None = None,
        overlap: float | None = None,
    ) -> bytes:
        """Return a PNG of the image with the detections drawn on it."""
        return self._result(
            requests.detect_picture(
                image,
                score_threshold,
                max_detections,
                model,
                Tiles(tile, overlap),
                masks=masks,
            )
        )

    def embed(
        self,
        image: ImageFile,
        *,
        layer: str | None = None,
        normalize: bool = False,
        model: str | None = None,
    ) -> EmbedResponse:
        """Embed an image; by default the service chooses the layer."""
        return self._result(requests.embed(image, layer, model, normalize=normalize))

    def explain(
        self,
        image: ImageFile,
        *,
        top_k: int | None = None,
        class_ids: Sequence[int] | None = None,
        model: str | None = None,
    ) -> ExplainResponse:
        """Return class maps: of the most likely class, of ``top_k`` of them, or of these."""
        return self._result(requests.explain(image, top_k, class_ids, model))

    def explain_picture(
        self,
        image: ImageFile,
        *,
        view: Literal["focus", "overview", "both"] = "focus",
        top_k: int | None = None,
        class_ids: Sequence[int] | None = None,
        model: str | None = None,
    ) -> bytes:
        """Return a PNG of the image with a class's map over it: the first one of ``explain``."""
        return self._result(requests.explain_picture(image, view, top_k, class_ids, model))

    def models(self) -> list[ServedModel]:
        """Return the served models and their devices."""
        return self._result(requests.models())

    def _result(self, call: Call[Result]) -> Result:
        steps = self._steps(call)
        outcome: Reply | httpx.RequestError | None = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(step, Pause):
                outcome = None
                time.sleep(step.seconds)
                continue
            try:
                outcome = self._reply(call, step)
            except httpx.RequestError as error:
                outcome = error

    def _reply(self, call: Call[Result], send: Send) -> Reply:
        deadline = time.monotonic() + send.timeout_seconds
        chunks = []
        with self._http.stream(**self._request(call, send)) as response:
            for chunk in response.iter_bytes():
                chunks.append(chunk)
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the answer is not complete")
        return Reply(self.url + call.path, response.status_code, response.headers, b"".join(chunks))
