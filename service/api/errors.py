"""Every failure that a caller can see, with the facts that help the caller.

``service.web.http.problems`` turns these into HTTP; nothing else does. They cross the link from an
engine by slug and detail (see ``ServiceError.rebuilt``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class ServiceError(Exception):
    """A failure with an HTTP status, a stable slug and a title; ``detail`` is for the caller.

    Attributes:
        detail: what went wrong, naming the limit and the value; no path, no secret.
        retry_after_seconds: when to try again, where that helps.
    """

    headers: ClassVar[Mapping[str, str]] = {}
    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Something unforeseen went wrong"

    def __init__(self, detail: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds

    @staticmethod
    def rebuilt(slug: str, detail: str, retry_after_seconds: float | None) -> ServiceError:
        """Recreate an error that was raised in another process."""
        kind = next((kind for kind in _all_kinds(ServiceError) if kind.slug == slug), ServiceError)
        error = kind.__new__(kind)
        ServiceError.__init__(error, detail, retry_after_seconds=retry_after_seconds)
        return error


def all_errors() -> list[type[ServiceError]]:
    """Return every kind of failure that a caller can see."""
    return _all_kinds(ServiceError)


def _all_kinds(kind: type[ServiceError]) -> list[type[ServiceError]]:
    return [kind, *(inner for child in kind.__subclasses__() for inner in _all_kinds(child))]


class MalformedRequestError(ServiceError):
    """The body is not what its content type says."""

    status, slug, title = 400, "malformed-request", "The request cannot be parsed"


class UnauthorizedError(ServiceError):
    """The caller has no key, or an unknown one."""

    headers = {"WWW-Authenticate": 'Bearer realm="overlock-service"'}  # noqa: RUF012 - never changed
    status, slug, title = 401, "unauthorized", "A valid API key is needed"


class OriginRefusedError(ServiceError):
    """A browser asks for a page whose origin, method or headers are not allowed."""

    status, slug, title = 403, "origin-refused", "This page may not call the service"


class TaskOffError(ServiceError):
    """The task is switched off in the settings."""

    status, slug, title = 404, "task-off", "This task is not served"


class ControlOffError(ServiceError):
    """Models are not loaded and unloaded at a caller's request."""

    status, slug, title = 404, "control-off", "Models cannot be loaded or unloaded here"

    def __init__(self) -> None:
        super().__init__(
            "Loading and unloading are off; the operator turns them on by OVERLOCK_MODEL_CONTROL."
        )


class UnknownModelError(ServiceError):
    """No model of that name is served."""

    status, slug, title = 404, "unknown-model", "There is no such model"


class NotAcceptableError(ServiceError):
    """The caller accepts none of the media types that the answer comes in."""

    status, slug, title = 406, "not-acceptable", "There is no answer in an accepted form"


class UploadTimeoutError(ServiceError):
    """The body did not arrive in time."""

    status, slug, title = 408, "upload-timeout", "The upload took too long"

    def __init__(
        self,
        *,
        limit_seconds: float,
        received_bytes: int,
        least_bytes_per_second: int | None = None,
    ) -> None:
        cause = (
            ""
            if least_bytes_per_second is None
            else f" It came slower than {least_bytes_per_second} bytes a second."
        )
        super().__init__(
            f"The body was not complete after {limit_seconds:.3g} seconds; "
            f"{received_bytes} bytes had arrived.{cause}"
        )


class HeadTimeoutError(ServiceError):
    """The request's headers did not arrive in time."""

    status, slug, title = 408, "head-timeout", "The request's headers took too long"

    def __init__(self, *, limit_seconds: float) -> None:
        super().__init__(f"The headers were not complete after {limit_seconds:g} seconds.")


class HeadTooLargeError(ServiceError):
    """The request's line and headers have more bytes than allowed."""

    status, slug, title = 431, "head-too-large", "The request's headers are too large"

    def __init__(self, *, limit_bytes: int) -> None:
        super().__init__(f"The request has more than {limit_bytes} bytes beside its body.")


class BodyTooLargeError(ServiceError):
    """The body has more bytes than allowed."""

    status, slug, title = 413, "body-too-large", "The body is too large"

    def __init__(self, *, limit_bytes: int, declared_bytes: int | None = None) -> None:
        size = "more" if declared_bytes is None else f"{declared_bytes} bytes"
        super().__init__(
            f"The body has {size}; the limit is {limit_bytes} bytes (OVERLOCK_MAX_BODY_BYTES)."
        )


class ImageTooLargeError(ServiceError):
    """The image has more pixels, or a longer side, than allowed."""

    status, slug, title = 413, "image-too-large", "The image is too large"

    def __init__(self, *, width: int, height: int, limit: str) -> None:
        super().__init__(f"The image has {width} x {height} pixels; the limit is {limit}.")


class TargetTooLongError(ServiceError):
    """The request's first line, and so its URL, has more bytes than allowed."""

    status, slug, title = 414, "target-too-long", "The URL is too long"

    def __init__(self, *, limit_bytes: int) -> None:
        super().__init__(
            f"The request's first line, with the URL, has more than {limit_bytes} bytes."
        )


class UnsupportedCodingError(ServiceError):
    """The body has a content coding that is not decoded."""

    headers = {"Accept-Encoding": "gzip, deflate"}  # noqa: RUF012 - never changed
    status, slug, title = 415, "unsupported-coding", "The content coding is not supported"

    def __init__(self, *, coding: str) -> None:
        super().__init__(
            f"Content-Encoding is {coding!r}; send the body as it is, or one of gzip and deflate."
        )


class ExpectationError(ServiceError):
    """The client expects something else than 100-continue."""

    status, slug, title = 417, "expectation-failed", "The expectation cannot be met"

    def __init__(self, *, expectation: str) -> None:
        super().__init__(f"Expect is {expectation}; only 100-continue can be met.")


class UnsupportedMediaError(ServiceError):
    """The content type or the image's format is not on the list."""

    status, slug, title = 415, "unsupported-media", "The media type is not supported"


class InvalidImageError(ServiceError):
    """The bytes are not an intact image."""

    status, slug, title = 422, "invalid-image", "The image cannot be decoded"


class InvalidParameterError(ServiceError):
    """A parameter is missing, misspelt or out of range."""

    status, slug, title = 422, "invalid-parameter", "A parameter is invalid"


class LoadFailedError(ServiceError):
    """No engines could be started with the models that were asked for; those before serve on."""

    status, slug, title = 422, "load-failed", "The models stay as they were"


class QueueFullError(ServiceError):
    """There is no room for one more request."""

    status, slug, title = 429, "queue-full", "Too many requests are waiting"

    def __init__(self, *, waiting: int, limit: int, retry_after_seconds: float) -> None:
        super().__init__(
            f"{waiting} requests are waiting; the limit is {limit} "
            "(OVERLOCK_MAX_QUEUE_REQUESTS for each engine).",
            retry_after_seconds=retry_after_seconds,
        )


class MemoryFullError(ServiceError):
    """There is a place for one more request, but not for its bytes."""

    status, slug, title = 429, "memory-full", "Too many bytes are waiting"

    def __init__(self, *, held_bytes: int, limit_bytes: int, retry_after_seconds: float) -> None:
        super().__init__(
            f"Requests hold {held_bytes} bytes; the limit is {limit_bytes} bytes "
            "(OVERLOCK_MAX_QUEUE_BYTES).",
            retry_after_seconds=retry_after_seconds,
        )


class DeadlineUnreachableError(ServiceError):
    """The work ahead takes longer than the caller would wait, so nothing was begun."""

    status, slug, title = 429, "deadline-unreachable", "The deadline cannot be met"

    def __init__(self, *, needed_seconds: float, left_seconds: float) -> None:
        super().__init__(
            f"An answer is expected in {needed_seconds:.3g} seconds; "
            f"the deadline is in {left_seconds:.3g} seconds.",
            retry_after_seconds=max(needed_seconds - left_seconds, 0.0),
        )


class InferenceError(ServiceError):
    """The network failed on this request."""

    status, slug, title = 500, "inference-failed", "The network failed on this image"


class TransferCodingError(ServiceError):
    """The body has a transfer coding that is not decoded."""

    status, slug, title = 501, "unknown-transfer-coding", "The transfer coding is not implemented"

    def __init__(self, *, coding: str) -> None:
        super().__init__(f"Transfer-Encoding has {coding}; only chunked is implemented.")


class NotReadyError(ServiceError):
    """The service starts, drains, or its engine is being restarted."""

    status, slug, title = 503, "not-ready", "The service is not ready"


class DeviceMemoryError(ServiceError):
    """The device has no memory for even this request alone."""

    status, slug, title = 503, "out-of-memory", "The device is out of memory"

    def __init__(self) -> None:
        super().__init__(
            "The device has too little free memory for this image.", retry_after_seconds=1.0
        )


class DeadlineExceededError(ServiceError):
    """The caller's deadline passed before there was an answer."""

    status, slug, title = 504, "deadline-exceeded", "The deadline passed"

    def __init__(self, *, timeout_seconds: float) -> None:
        shown = f"{timeout_seconds:g}"
        if "e-" in shown:  # a protocol counts in microseconds
            shown = f"{timeout_seconds:.6f}".rstrip("0").rstrip(".")
        super().__init__(f"There was no answer within {shown} seconds.")


class HttpVersionError(ServiceError):
    """The request has another version of HTTP."""

    status, slug, title = 505, "http-version", "The version of HTTP is not supported"

    def __init__(self, *, version: str) -> None:
        super().__init__(f"The request has HTTP/{version}; only HTTP/1.0 and HTTP/1.1 are served.")
