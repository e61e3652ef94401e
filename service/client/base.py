"""Setup and requests that both clients share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeVar

import httpx

from service.client.requests import Call
from service.client.retries import Send, Steps, steps_with_retries

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT_SECONDS = 60.0
MAX_ATTEMPTS = 5
CONNECT_SECONDS = 5.0
"""Timeout of one attempt to connect."""

Result = TypeVar("Result")


class BaseClient(ABC):
    """Base of both clients: address, key, timeout and retries.

    Args:
        url: of the service.
        api_key: if the service needs one.
        timeout_seconds: for each result, with all attempts and the waits between them.
        max_attempts: most attempts at one result. Statuses 429 and 503 and failed connections are
            retried, after the wait that the service states or after a growing one.

    Raises:
        ValueError: for a URL that is not HTTP's, a key that no header can hold, or a number that
            is out of range.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> None:
        if timeout_seconds <= 0 or max_attempts < 1:
            raise ValueError(
                f"The timeout is {timeout_seconds:g} seconds and there are {max_attempts} "
                "attempts; both have to be above 0."
            )
        self.url = _checked(url)
        self._timeout_seconds = timeout_seconds
        self._max_attempts = max_attempts
        self._open({} if api_key is None else {"Authorization": f"Bearer {_token(api_key)}"})

    @abstractmethod
    def _open(self, headers: dict[str, str]) -> None:
        """Create the HTTP client, whose requests carry these headers."""

    def _steps(self, call: Call[Result]) -> Steps[Result]:
        return steps_with_retries(
            call,
            url=self.url,
            timeout_seconds=self._timeout_seconds,
            max_attempts=self._max_attempts,
        )

    def _request(self, call: Call[Result], send: Send) -> dict[str, Any]:
        """Return the arguments of httpx's ``request``."""
        headers = {"Accept": call.accept}
        if call.image is not None:
            # The service detects the format.
            headers["Content-Type"] = "application/octet-stream"
        connect_seconds = min(send.timeout_seconds, CONNECT_SECONDS)
        return {
            "method": "GET" if call.image is None else "POST",
            "url": self.url + call.path,
            "params": send.params,
            "headers": headers,
            "content": call.image,
            "timeout": httpx.Timeout(send.timeout_seconds, connect=connect_seconds),
        }


def _checked(url: str) -> str:
    """Check an address and return it without the slash at its end."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is no address: {error}.") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host or parsed.query:
        raise ValueError(f"{url!r} is no address like {DEFAULT_URL}.")
    return url.rstrip("/")


def _token(api_key: str) -> str:
    if not api_key.isascii() or not api_key.isprintable() or not api_key:
        raise ValueError("The API key is empty, or has characters that no header can hold.")
    return api_key
