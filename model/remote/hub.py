"""Weights in a repository of the Hugging Face Hub, or of a hub like it.

Files lie in the hub's own cache (``HF_HOME``), which other programs share; addresses, tokens and
offline mode are those of ``huggingface_hub``. A ``config.json`` beside weights under a hub's usual
name is fetched with them: it states their input and classes.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from tqdm import tqdm

from model.checkpoints.hub_config import CONFIG_FILE, WEIGHTS_FILES
from model.pretrained.progress import Progress, ShowProgress
from model.remote.addresses import HubAddress, RemoteError
from model.remote.cache import RemoteWeights

if TYPE_CHECKING:
    Bar = tqdm[NoReturn]
else:
    Bar = tqdm

_LFS_ETAG = re.compile(r"[0-9a-f]{64}")
"""The hub's ETag of a large file is its SHA-256, and the name of its blob in the cache."""

_TRANSIENT = {408, 429}

logger = logging.getLogger(__name__)


class _UnreachableError(Exception):
    """The hub did not say whether it has the file."""


def fetch_from_hub(address: HubAddress, show: Progress) -> RemoteWeights:
    """Download a file unless it is cached.

    A revision that is not a whole commit is looked up in the hub each time. While the hub cannot be
    reached, the commit that is in the cache is used, and a warning says so.

    Raises:
        RemoteError: if there is no such file, the token may not read it, or the hub cannot be
            reached and the cache does not have it.
    """
    path = _cached(address) if address.is_pinned and _knows_config(address) else None
    if path is None:
        try:
            path = _download(address, show)
        except _UnreachableError as error:
            path = _cached(address)
            if path is None:
                raise RemoteError(
                    f"{address} cannot be fetched, and is not in the cache: {error}."
                ) from error
            logger.warning(
                "%s is taken from the cache, at commit %s, because %s.",
                *(address, _commit_of(path, address), error),
            )
            if not _knows_config(address):
                logger.warning("Whether a %s belongs to it, is not known.", CONFIG_FILE)
    pinned = address.at(_commit_of(path, address))
    blob = path.readlink().name if path.is_symlink() else ""
    return RemoteWeights(path, str(pinned), blob if _LFS_ETAG.fullmatch(blob) else None)


def _cached(address: HubAddress) -> Path | None:
    """Return the path of a file in the hub's cache, at the commit that its revision was last."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(address.repo, address.file, revision=address.revision)
    return Path(found) if isinstance(found, str) else None


def _config_of(address: HubAddress) -> str | None:
    """Return the path of the configuration that counts for a file, if one can."""
    folder, _, name = address.file.rpartition("/")
    if name not in WEIGHTS_FILES:
        return None
    return f"{folder}/{CONFIG_FILE}" if folder else CONFIG_FILE


def _knows_config(address: HubAddress) -> bool:
    """Tell whether the cache says what the configuration is, or that there is none."""
    from huggingface_hub import try_to_load_from_cache

    config = _config_of(address)
    if config is None:
        return True
    found: object = try_to_load_from_cache(address.repo, config, revision=address.revision)
    return found is not None


def _commit_of(path: Path, address: HubAddress) -> str:
    """Return the commit in ``snapshots/COMMIT/FILE``."""
    return path.parents[address.file.count("/")].name


def _download(address: HubAddress, show: Progress) -> Path:
    """Download a file, and the configuration first: where the file is, all of it is.

    Raises:
        RemoteError: if the hub refuses.
        _UnreachableError: if it cannot be reached.
    """
    import httpx2  # the client of huggingface_hub, whose errors are not all wrapped
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        FileMetadataError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    try:
        # Asked first: hf_hub_download would take a cached file without a word of it.
        url = hf_hub_url(address.repo, address.file, revision=address.revision)
        commit = get_hf_file_metadata(url).commit_hash
        if commit is None:
            raise FileMetadataError("it is no hub")
        config = _config_of(address)
        if config is not None:
            try:
                hf_hub_download(
                    address.repo, config, revision=commit, tqdm_class=_bar(lambda *_: None)
                )
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                pass
        if _cached(address.at(commit)) is None:
            logger.info("Downloading %s to the hub's cache.", address.at(commit))
        with show(address.file_name) as report:
            downloaded = hf_hub_download(
                address.repo, address.file, revision=commit, tqdm_class=_bar(report)
            )
        if not address.is_pinned:
            # By its name once more, now that the file is there: the cache notes its commit.
            hf_hub_download(address.repo, address.file, revision=address.revision)
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, FileMetadataError) as error:
        raise _UnreachableError(_reason(error)) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status >= 500 or status in _TRANSIENT:
            raise _UnreachableError(f"{_host()} answers with status {status}") from error
        raise RemoteError(_refusal(address, error)) from error
    except httpx2.HTTPError as error:
        raise _UnreachableError(_reason(error)) from error
    except (OSError, RuntimeError) as error:
        if getattr(error, "errno", None) is None:  # of Xet's client, or a file of another length
            failed = f"the download from {_host()} failed ({type(error).__name__})"
            raise _UnreachableError(failed) from error
        raise RemoteError(
            f"{address} cannot be kept in the hub's cache: {error}. Make room there, or name "
            "another one in HF_HOME."
        ) from error
    except ValueError as error:  # huggingface_hub's rules for names
        raise RemoteError(f"{address}: {error}") from error
    return Path(downloaded)


def _host() -> str:
    from huggingface_hub import constants

    endpoint: str = constants.ENDPOINT
    return urlsplit(endpoint).netloc.rpartition("@")[2]


def _reason(error: Exception) -> str:
    """Return why the hub cannot be asked; never its message, which can repeat a header."""
    from huggingface_hub.errors import FileMetadataError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, FileMetadataError):
        return f"{_host()} does not answer as a hub, like a proxy that wants a login"
    return f"{_host()} cannot be reached ({type(error.__cause__ or error).__name__})"


def _refusal(address: HubAddress, error: Exception) -> str:
    """Return a sentence about an answer that another attempt will not change."""
    from huggingface_hub import errors, get_token

    token = get_token()
    match error:
        case errors.GatedRepoError():
            return (
                f"{address.repo} on {_host()} is gated: accept its conditions there, and give that "
                f"account's token in HF_TOKEN{' (the one given may not read it)' if token else ''}."
            )
        case errors.RepositoryNotFoundError() if token:
            return (
                f"{_host()} has no repository {address.repo}, or the token (HF_TOKEN, or the one "
                "that was saved) may not read it."
            )
        case errors.RepositoryNotFoundError():
            return (
                f"{_host()} has no repository {address.repo}, or it is private: then give a token "
                "in HF_TOKEN."
            )
        case errors.RevisionNotFoundError():
            return f"{address.repo} on {_host()} has no revision {address.revision}."
        case errors.EntryNotFoundError():
            return f"{address} is not there: {address.repo} has no file {address.file}."
        case errors.HfHubHTTPError() if error.response.status_code == 401:
            return f"{_host()} does not know the token (HF_TOKEN, or the one that was saved)."
        case errors.HfHubHTTPError():
            return f"{address} cannot be read: {_host()} answers with status " + (
                f"{error.response.status_code}."
            )
    raise AssertionError from error


def _bar(report: ShowProgress) -> type[Bar]:
    """Return the progress bar that ``huggingface_hub`` draws: it draws nothing, and reports.

    Of Xet's two bars, for the network and for the disk, the one that is further counts.
    """
    furthest = 0

    class Reporting(Bar):
        def __init__(self, **options: Any) -> None:
            super().__init__(**{**options, "disable": True})
            self.n, self.total = options.get("initial", 0), options.get("total")

        def update(self, n: float | None = 1) -> bool | None:
            nonlocal furthest
            self.n += n or 0
            furthest = max(furthest, int(self.n))
            report(furthest, None if self.total is None else int(self.total))
            return None

    return Reporting
