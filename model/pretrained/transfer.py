"""Download one file over HTTPS: resumed, retried, and limited in size.

Only a strong ETag identifies a version of a file; without one, an interrupted download starts over.
The contents of the file are not looked at.
"""

from __future__ import annotations

import logging
import random
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import httpx

from model.pretrained.partial_file import PartialDownload
from model.pretrained.progress import ShowProgress, megabytes

LARGEST_BYTES = 4 * 2**30
"""Largest file that is accepted: the largest detector has half a gigabyte, and three times that
with an optimizer's state."""

LONGEST_WAIT_SECONDS = 60.0
MAX_REDIRECTS = 5
PROGRESS_BYTES = 2**20
"""An attempt that adds at least this much resets the count of failures."""

TIMEOUT = httpx.Timeout(30.0, connect=10.0)
"""Seconds; the first is for the next bytes, not for the whole file."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

TRANSIENT = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,  # the next attempt asks for the whole file
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
"""Statuses after which a later attempt may succeed."""

CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")

logger = logging.getLogger(__name__)


class TransferError(Exception):
    """A download failed, and another attempt at once will not help."""


class InterruptedTransferError(Exception):
    """An attempt failed, but the next one may succeed.

    Args:
        cause: what happened.
        retry_after_seconds: pause that the server demands.
    """

    def __init__(self, cause: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(cause)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True)
class Retries:
    """Number of attempts, and the pauses between them.

    Attributes:
        attempts: attempts in a row without progress after which the download fails.
        first_seconds: the pause after the first of them; each pause is twice the one before, minus
            a random part of up to half, so that many clients do not retry together.
        sleep: waits a number of seconds.
    """

    attempts: int = 5
    first_seconds: float = 1.0
    sleep: Callable[[float], None] = time.sleep

    def pause_seconds(self, failures: int) -> float:
        """Return the pause after a number of failures in a row."""
        longest = self.first_seconds * 2.0 ** (failures - 1)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def download(url: str, path: Path, report: ShowProgress, retries: Retries | None = None) -> None:
    """Download a file, or the rest of a partial one.

    Args:
        url: HTTPS, redirects included; a loopback address may use HTTP.
        path: target; the bytes of an earlier attempt are reused.
        report: called with the progress.
        retries: what to do when an attempt fails; by default five attempts over 15 seconds.

    Raises:
        TransferError: if the download fails.
        OSError: if it cannot be stored.
    """
    part, retries = PartialDownload(path), retries or Retries()
    failures, furthest = 0, part.done_bytes
    with _client(url) as client:
        while not _is_whole(part):
            try:
                _attempt(client, url, part, report)
            except (InterruptedTransferError, httpx.TransportError) as error:
                cause = _cause(error)
                if part.done_bytes >= furthest + PROGRESS_BYTES:
                    failures, furthest = 0, part.done_bytes
                failures += 1
                if failures == retries.attempts:
                    raise TransferError(f"{cause} (tried {failures} times)") from error
                demanded = getattr(error, "retry_after_seconds", 0.0)
                seconds = min(max(retries.pause_seconds(failures), demanded), LONGEST_WAIT_SECONDS)
                done = megabytes(part.done_bytes)
                logger.warning("%s (%s so far); trying again in %.1f s.", cause, done, seconds)
                retries.sleep(seconds)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise TransferError(str(error)) from error
            else:
                return


def _client(url: str) -> httpx.Client:
    """Return a client that refuses HTTP, except among loopback addresses."""
    is_local = httpx.URL(url).host in LOOPBACK

    def refuse_plain(request: httpx.Request) -> None:
        if request.url.scheme != "https" and not (is_local and request.url.host in LOOPBACK):
            raise TransferError(
                f"it leads to {request.url.scheme}://{request.url.host}, which is no HTTPS"
            )

    return httpx.Client(
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        timeout=TIMEOUT,
        event_hooks={"request": [refuse_plain]},
    )


def _is_whole(part: PartialDownload) -> bool:
    version = part.version()
    return version is not None and part.done_bytes == version[1]


def _attempt(client: httpx.Client, url: str, part: PartialDownload, report: ShowProgress) -> None:
    """Request the missing bytes and store them."""
    # A compressed answer would have another length, and no ranges.
    headers = {"Accept-Encoding": "identity"}
    version = part.version()
    if version is not None and 0 < part.done_bytes < version[1]:
        headers |= {"Range": f"bytes={part.done_bytes}-", "If-Range": version[0]}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.discard()
        _refuse_unusable(response)
        if response.status_code == HTTPStatus.PARTIAL_CONTENT:
            total: int | None = _continued_bytes(response, part)
        else:
            total = _stated_bytes(response)
            part.begin(_strong_etag(response), total)
        _refuse_too_long(total or 0)
        _refuse_without_room(part, total)
        _store(response, part, total, report)


def _refuse_unusable(response: httpx.Response) -> None:
    status = response.status_code
    if status in TRANSIENT:
        raise InterruptedTransferError(_in_words(status), _retry_after_seconds(response))
    if status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
        raise TransferError(_in_words(status))
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise TransferError(
            f"{response.url.host} answers with a web page, like a proxy that wants a login"
        )
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise TransferError(f"{response.url.host} answers in a compressed form, unasked")


def _continued_bytes(response: httpx.Response, part: PartialDownload) -> int:
    """Return the length of the whole file if the answer continues the part."""
    found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    etag, total = part.version() or (None, None)
    if (
        found is None
        or (int(found[1]), int(found[2])) != (part.done_bytes, total)
        or _strong_etag(response) not in {None, etag}
    ):
        part.discard()
        raise InterruptedTransferError(
            f"{response.url.host} sent another part of the file than requested"
        )
    return int(found[2])


def _stated_bytes(response: httpx.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _strong_etag(response: httpx.Response) -> str | None:
    etag: str = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else None


def _retry_after_seconds(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 0.0


def _refuse_too_long(length: int) -> None:
    if length > LARGEST_BYTES:
        raise TransferError(f"it is longer than {megabytes(LARGEST_BYTES)}, the limit")


def _refuse_without_room(part: PartialDownload, total: int | None) -> None:
    missing = (total or 0) - part.done_bytes
    free = shutil.disk_usage(part.path.parent).free
    if missing > free:
        raise TransferError(
            f"{part.path.parent} has room for {megabytes(free)}, but {megabytes(missing)} are "
            "missing"
        )


def _store(
    response: httpx.Response, part: PartialDownload, total: int | None, report: ShowProgress
) -> None:
    done = part.done_bytes
    report(done, total)
    with part.path.open("ab") as file:
        for chunk in response.iter_raw():
            done += len(chunk)
            _refuse_too_long(done)
            file.write(chunk)
            report(done, total)
    if total is not None and done != total:
        raise InterruptedTransferError(f"{response.url.host} sent {done} of {total} bytes")


def _cause(error: InterruptedTransferError | httpx.TransportError) -> str:
    if isinstance(error, InterruptedTransferError):
        return str(error)
    host = error.request.url.host
    if isinstance(error, httpx.RemoteProtocolError):
        return f"{host}: the connection broke off"
    reason = re.sub(r"^\[Errno -?\d+\] ", "", str(error))
    return f"{host}: {reason or type(error).__name__}"


def _in_words(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"status {status}"
