"""The client for asyncio."""

from __future__ import annotations

import asyncio
from typing import Literal, Self, TypeVar

import httpx

from service.api.schemas import ClassifyResponse, DetectResponse, SegmentResponse, ServedModel
from service.client import requests
from service.client.base import BaseClient
from service.client.requests import Call, ImageFile, Reply
from service.client.retries import Pause, Send

Result = TypeVar("Result")


class AsyncClient(BaseClient):
    """Asks the service from asyncio; any number of tasks may share one.

    As ``Client``, with awaitable methods. Close it with ``aclose``, or use it in an ``async with``
    statement. A task that is cancelled withdraws its request.
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

    async def classify(self, image: ImageFile, *, top_k: int | None = None) -> ClassifyResponse:
        """Name what an image shows; the service chooses how many classes unless told."""
        return await self._result(requests.classify(image, top_k))

    async def segment(
        self, image: ImageFile, *, mask: Literal["png", "rle", "none"] = "png"
    ) -> SegmentResponse:
        """Say which class each pixel of an image has."""
        return await self._result(requests.segment(image, mask))

    async def segment_picture(
        self, image: ImageFile, *, view: Literal["labels", "overlay"] = "overlay"
    ) -> bytes:
        """Return a PNG of the label map, on its own or over the image."""
        return await self._result(requests.segment_picture(image, view))

    async def detect(
        self,
        image: ImageFile,
        *,
        score_threshold: float | None = None,
        max_detections: int | None = None,
        masks: bool = True,
    ) -> DetectResponse:
        """Find the things on an image."""
        return await self._result(
            requests.detect(image, score_threshold, max_detections, masks=masks)
        )

    async def detect_picture(
        self,
        image: ImageFile,
        *,
        score_threshold: float | None = None,
        max_detections: int | None = None,
        masks: bool = True,
    ) -> bytes:
        """Return a PNG of the image with the things drawn on it."""
        return await self._result(
            requests.detect_picture(image, score_threshold, max_detections, masks=masks)
        )

    async def models(self) -> list[ServedModel]:
        """Say what is served, and on what."""
        return await self._result(requests.models())

    async def _result(self, call: Call[Result]) -> Result:
        steps = self._attempts(call)
        came: Reply | httpx.RequestError | None = None
        while True:
            try:
                step = steps.send(came)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(step, Pause):
                came = None
                await asyncio.sleep(step.seconds)
                continue
            try:
                came = await self._reply(call, step)
            except httpx.RequestError as error:
                came = error

    async def _reply(self, call: Call[Result], send: Send) -> Reply:
        try:
            async with asyncio.timeout(send.timeout_seconds):
                response = await self._http.request(**self._request(call, send))
        except TimeoutError as error:
            raise httpx.ReadTimeout("the answer is not complete") from error
        return Reply(self.url + call.path, response.status_code, response.headers, response.content)
