"""The errors of the buckets' libraries, in one sentence each."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from model.remote.addresses import BucketAddress, RemoteError

_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO}

_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or the machine's service account",
}


class UnreachableError(Exception):
    """The bucket did not say whether it has the object; the message says why."""


@contextmanager
def in_words(address: BucketAddress) -> Iterator[None]:
    """Translate the errors of s3fs and gcsfs.

    Raises:
        RemoteError: if another attempt will not help.
        UnreachableError: if it may.
        OSError: of the disk, as it was.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise RemoteError(_missing(address, error)) from error
    except PermissionError as error:
        if error.filename is not None:
            raise
        raise RemoteError(_denied(address)) from error
    except TimeoutError as error:
        raise UnreachableError("it does not answer in time") from error
    except OSError as error:
        if error.errno in _OF_THE_DISK:
            raise
        raise _answered(address, error, _status(error)) from error
    except _unreachable(address.scheme) as error:
        raise UnreachableError(f"its store cannot be reached ({type(error).__name__})") from error
    except _refusals(address.scheme) as error:
        code = getattr(error, "code", None)  # of gcsfs, the status of an answer
        if isinstance(code, int):
            raise _answered(address, error, code) from error
        raise RemoteError(
            f"{address} cannot be read ({type(error).__name__}): are there credentials, and are "
            f"they right ({_CREDENTIALS[address.scheme]})?"
        ) from error


def _unreachable(scheme: str) -> tuple[type[Exception], ...]:
    """Return the errors of a broken connection; imported once something was raised."""
    if scheme == "s3":
        from botocore.exceptions import ConnectionError as S3ConnectionError
        from botocore.exceptions import HTTPClientError

        return (S3ConnectionError, HTTPClientError)
    import aiohttp
    import requests
    from gcsfs.retry import ChecksumError
    from google.auth.exceptions import TransportError

    return (aiohttp.ClientError, requests.RequestException, TransportError, ChecksumError)


def _refusals(scheme: str) -> tuple[type[Exception], ...]:
    """Return the other errors of the libraries."""
    if scheme == "s3":
        from botocore.exceptions import BotoCoreError

        return (BotoCoreError, ValueError)
    from gcsfs.retry import HttpError
    from google.auth.exceptions import GoogleAuthError

    return (GoogleAuthError, HttpError, ValueError)


def _missing(address: BucketAddress, error: Exception) -> str:
    # s3fs gives S3's own words for a bucket, and the path for an object.
    if address.scheme == "s3" and error.__cause__ is not None:
        return f"{address} is not there: there is no bucket {address.bucket}."
    bucket = f"bucket {address.bucket}" + (", if there is one," if address.scheme == "gs" else "")
    version = "" if address.version is None else f" in version {address.version}"
    return f"{address} is not there: {bucket} has no object {address.key}{version}."


def _denied(address: BucketAddress) -> str:
    return (
        f"{address} cannot be read: access is denied, with these credentials or without any "
        f"({_CREDENTIALS[address.scheme]})."
    )


def _answered(
    address: BucketAddress, error: Exception, status: int | None
) -> RemoteError | UnreachableError:
    """Return the error to raise for an answer of the store."""
    # gcsfs states no status where access is forbidden.
    if status in {401, 403} or (address.scheme == "gs" and str(error).startswith("Forbidden")):
        return RemoteError(_denied(address))
    if status is None or status >= 500 or status in {408, 429}:
        reason = type(error).__name__ if status is None else f"it answers with status {status}"
        return UnreachableError(f"its store cannot be reached ({reason})")
    expired = ", as with credentials that have expired" if status == 400 else ""
    return RemoteError(
        f"{address} cannot be read: its store answers with status {status}{expired}."
    )


def _status(error: Exception) -> int | None:
    """Return the status of the answer that s3fs made an error of."""
    response = getattr(error.__cause__, "response", None)
    metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    return metadata.get("HTTPStatusCode")
