"""What a client's caller can meet."""

from __future__ import annotations

from service.api.schemas import ProblemDocument


class ClientError(Exception):
    """There is no result; the message says why."""


class ProblemError(ClientError):
    """The service refused, or failed, and said why.

    Attributes:
        problem: its words.
        retry_after_seconds: when to come again, if it said so.
    """

    def __init__(self, problem: ProblemDocument, retry_after_seconds: float | None) -> None:
        super().__init__(f"{problem.title}: {problem.detail}")
        self.problem = problem
        self.retry_after_seconds = retry_after_seconds


class UnexpectedAnswerError(ClientError):
    """What answered does not speak as the service does: a proxy, or something else altogether.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, url: str, status: int, said: str) -> None:
        super().__init__(f"{url} answered with status {status}, not as overlock-service: {said}")
        self.status = status


class UnreachableError(ClientError):
    """No connection came about, or each one broke."""


class TooLateError(ClientError):
    """There was no result within the timeout."""
