"""Errors that the clients raise."""

from __future__ import annotations

from service.api.schemas import ProblemDocument


class ClientError(Exception):
    """A call failed; the message says why."""


class ProblemError(ClientError):
    """The service answered with a problem document.

    Attributes:
        problem: the document.
        retry_after_seconds: wait before a retry; None if the service states none.
    """

    def __init__(self, problem: ProblemDocument, retry_after_seconds: float | None) -> None:
        super().__init__(f"{problem.title}: {problem.detail}")
        self.problem = problem
        self.retry_after_seconds = retry_after_seconds


class UnexpectedAnswerError(ClientError):
    """The answer is not overlock-service's, but a proxy's or another server's.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, url: str, status: int, excerpt: str) -> None:
        super().__init__(f"{url} answered with status {status}, not as overlock-service: {excerpt}")
        self.status = status


class UnreachableError(ClientError):
    """No connection could be made, or each one broke."""


class TooLateError(ClientError):
    """No result arrived within the timeout."""
