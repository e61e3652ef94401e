"""API keys, stored as SHA-256 digests and read again when their file changes.

Digests without salt are enough for random keys: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.api.errors import UnauthorizedError
from service.settings import PREFIX, SettingsError

LINE = re.compile(r"([A-Za-z0-9._-]{1,64})\s+([0-9a-fA-F]{64})")
"""A key's name, as logs show it, and its digest."""

logger = logging.getLogger(__name__)


class ApiKeys:
    """The keys of one file.

    Args:
        path: a line for each key, ``NAME SHA256``; empty lines and comments (#) are ignored.
            Without a line nobody has a key.

    Raises:
        SettingsError: if the file cannot be read or understood.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = _version(path)
        self._names = _read(path)

    def name_of(self, key: str) -> str | None:
        """Return the name of a key, None if the key is unknown.

        Takes the same time for every key, known or not.
        """
        self._reload_if_changed()
        digest, found = hashlib.sha256(key.encode()).hexdigest(), None
        for known, name in self._names.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found

    def _reload_if_changed(self) -> None:
        version = _version(self._path)
        if version == self._version:
            return
        self._version = version
        try:
            self._names = _read(self._path)
        except SettingsError as error:
            # A file in the middle of being written must not lock everyone out.
            logger.error("%s The keys stay as they were.", error)
        else:
            logger.info("Read %d API keys.", len(self._names))


def _version(path: Path) -> tuple[int, ...] | None:
    """Return a file's time, inode and size, which differ between versions; None without a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _read(path: Path) -> dict[str, str]:
    setting = f"{PREFIX}API_KEYS_FILE"
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{setting}: {path} cannot be read: {error}.") from error
    names = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        matched = LINE.fullmatch(line.strip())
        if matched is None:
            # The line itself is not shown: someone may have put the key there.
            raise SettingsError(f"{setting}: line {number} of {path} is not NAME SHA256.")
        names[matched[2].lower()] = matched[1]
    if not names:
        logger.warning(
            "%s: %s has no key, so every request that needs one is refused.", setting, path
        )
    return names


bearer = HTTPBearer(
    auto_error=False, scheme_name="ApiKey", description="A key handed out by the operator."
)


async def require_key(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> None:
    """Accept only requests with a known key; note the key's name for the log.

    Raises:
        UnauthorizedError: if there is no key, or an unknown one.
    """
    keys: ApiKeys = request.app.state.api_keys
    if credentials is None:
        raise UnauthorizedError("Send Authorization: Bearer and a key.")
    name = keys.name_of(credentials.credentials)
    if name is None:
        raise UnauthorizedError("The key is unknown.")
    request.state.key_name = name


async def check_key(request: Request) -> None:
    """Do what ``require_key`` does, without FastAPI's dependencies."""
    await require_key(request, await bearer(request))
