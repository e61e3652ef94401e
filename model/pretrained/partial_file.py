"""A file that is on its way: what is there of it, and of which version it is a part.

What arrives is kept in ``NAME.part``, and beside it, in ``NAME.part.json``, the ETag and the length
of the whole file, so that another process can go on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PartialDownload:
    """A file that is on its way.

    Attributes:
        path: what is there of it.
    """

    path: Path

    @property
    def done_bytes(self) -> int:
        """How much of it is there."""
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self) -> tuple[str, int] | None:
        """Return the ETag and the length of the file that this is a part of, if they are known."""
        try:
            facts = json.loads(self._facts.read_text(encoding="utf-8"))
            return str(facts["etag"]), int(facts["bytes"])
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            return None

    def begin(self, etag: str | None, total_bytes: int | None) -> None:
        """Discard what is there and note which file comes now."""
        self.discard()
        if etag is not None and total_bytes is not None:
            facts = {"etag": etag, "bytes": total_bytes}
            self._facts.write_text(json.dumps(facts), encoding="utf-8")

    def discard(self) -> None:
        """Remove what is there."""
        self._facts.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    @property
    def _facts(self) -> Path:
        return self.path.with_name(self.path.name + ".json")
