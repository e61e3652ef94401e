"""The asynchronous client."""

from __future__ import annotations

import asyncio
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


class AsyncClient(BaseClient):
    """A client of the service for asyncio; any number of tasks may share one.

    Like ``Client``, with awaitable methods. Close it with ``aclose``, or use it in an
    ``async with`` statement. A task that is cancelled withdraws its request.
    """

    _http: httpx.AsyncClient

    def _open(self, headers: dict[str, str]) -> None:
        self._http = httpx.AsyncClient(headers=headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def classify(
        self, image: ImageFile, *, top_k: int | None = None, model: str | None = None
    ) -> ClassifyResponse:
        """Classify an image; by default the service chooses the number of classes."""
        return await self._result(requests.classify(image, top_k, model))

    async def segment(
        self,
        image: ImageFile,
        *,
        mask: Literal["png", "rle", "none"] = "png",
        model: str | None = None,
        tile: int | None = None,
        overlap: float | None = None,
    ) -> SegmentResponse:
        """Classify each pixel of an image."""
        return await self._result(requests.segment(image, mask, model, Tiles(tile, overlap)))

    async def segment_picture(
        self,
        image: ImageFile,
        *,
        view: Literal["labels", "overlay"] = "overlay",
        model: str | None = None,
        tile: int | None = None,
        overlap: float | None = None,
    ) -> bytes:
        """Return a PNG of the label map, on its own or over the image."""
        return await self._result(
            requests.segment_picture(image, view, model, Tiles(tile, overlap))
        )

    async def detect(
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
        return await self._result(
            requests.detect(
                image,
                score_threshold,
                max_detections,
                model,
                Tiles(tile, overlap),
                masks=masks,
            )
        )

    async def detect_picture(
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
        return await self._result(
            requests.detect_picture(
                image,
                score_threshold,
                max_detections,
                model,
                Tiles(tile, overlap),
                masks=masks,
            )
        )

    async def embed(
        self,
        image: ImageFile,
        *,
        layer: str | None = None,
        normalize: bool = False,
        model: str | None = None,
    ) -> EmbedResponse:
        """Embed an image; by default the service chooses the layer."""
        return await self._result(requests.embed(image, layer, model, normalize=normalize))

    async def explain(
        self,
        image: ImageFile,
        *,
        top_k: int | None = None,
        class_ids: Sequence[int] | None = None,
        model: str | None = None,
    ) -> ExplainResponse:
        """Return class maps: of the most likely class, of ``top_k`` of them, or of these."""
        return await self._result(requests.explain(image, top_k, class_ids, model))

    async def explain_picture(
        self,
        image: ImageFile,
        *,
        view: Literal["focus", "overview", "both"] = "focus",
        top_k: int | None = None,
        class_ids: Sequence[int] | None = None,
        model: str | None = None,
    ) -> bytes:
        """Return a PNG of the image with a class's map over it: the first one of ``explain``."""
        return await self._result(requests.explain_picture(image, view, top_k, class_ids, model))

    async def models(self) -> list[ServedModel]:
        """Return the served models and their devices."""
        return await self._result(requests.models())

    async def _result(self, call: Call[Result]) -> Result:
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
                await asyncio.sleep(step.seconds)
                continue
            try:
                outcome = await self._reply(call, step)
            except httpx.RequestError as error:
                outcome = error

    async def _reply(self, call: Call[Result], send: Send) -> Reply:
        try:
            async with asyncio.timeout(send.timeout_seconds):
                response = await self._http.request(**self._request(call, send))
        except TimeoutError as error:
            raise httpx.ReadTimeout("the answer is not complete") from error
        return Reply(self.url + call.path, response.status_code, response.headers, response.content)
