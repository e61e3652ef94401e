"""Weights on a web server, over HTTPS, with their digest in the address."""

from __future__ import annotations

from pathlib import Path

from model.pretrained.progress import Progress
from model.remote.addresses import RemoteError, WebAddress
from model.remote.cache import RemoteWeights, find_kept, keep


def fetch_from_web(address: WebAddress, folder: Path, show: Progress) -> RemoteWeights:
    """Download a file unless it is kept; see ``model.pretrained.transfer``.

    Raises:
        RemoteError: if it cannot be downloaded or kept, or has another digest than the address.
    """
    kept = find_kept(address, folder)
    if kept is not None:
        return kept

    def download(part: Path) -> None:
        # Imported here: kept weights need no HTTP client.
        from model.pretrained.transfer import TransferError
        from model.pretrained.transfer import download as transfer

        try:
            with show(address.file_name) as report:
                transfer(address.url, part, report)
        except TransferError as error:
            raise RemoteError(
                f"{address} cannot be downloaded: {error}. The next attempt resumes this one."
            ) from error

    return keep(address, address, folder, download, sha256=address.sha256)
