"""Downloads of a small file from a server of the test's."""

from __future__ import annotations

from model.pretrained.partial_file import PartialDownload
from model.pretrained.transfer import Retries, download
from support.release_server import ReleaseServer

CONTENTS = bytes(range(256)) * 1200
FILE = "weights.pth"


class Fetch:
    """Downloads, with pauses that are noted and not slept."""

    def __init__(self, page: ReleaseServer, part: PartialDownload) -> None:
        self.page, self.part = page, part
        self.pauses: list[float] = []
        self.reports: list[tuple[int, int | None]] = []

    def __call__(self, url: str = "") -> bytes:
        retries = Retries(sleep=self.pauses.append)
        download(
            url or f"{self.page.url}/{FILE}",
            self.part.path,
            lambda done, total: self.reports.append((done, total)),
            retries,
        )
        return self.part.path.read_bytes()
