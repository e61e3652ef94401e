"""A partial download: the bytes so far, and the version of the file that they belong to.

The bytes are in ``NAME.part``. The ETag and the length of the whole file are in ``NAME.part.json``,
so that another process can resume the download.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PartialDownload:
    """A partial download.

    Attributes:
        path: the file with the bytes so far.
    """

    path: Path

    @property
    def done_bytes(self) -> int:
        """Number of bytes so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self) -> tuple[str, int] | None:
        """Return the ETag and the length of the whole file, if they are known."""
        try:
            facts = json.loads(self._facts.read_text(encoding="utf-8"))
            return str(facts["etag"]), int(facts["bytes"])
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            return None

    def begin(self, etag: str | None, total_bytes: int | None) -> None:
        """Discard the bytes so far and record the version of the file that comes next."""
        self.discard()
        if etag is not None and total_bytes is not None:
            facts = {"etag": etag, "bytes": total_bytes}
            self._facts.write_text(json.dumps(facts), encoding="utf-8")

    def discard(self) -> None:
        """Remove the bytes so far and the record of their version."""
        self._facts.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    @property
    def _facts(self) -> Path:
        return self.path.with_name(self.path.name + ".json")
