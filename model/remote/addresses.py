"""Addresses of weights: hf://, s3://, gs:// and https://. Torch-free.

A pinned address names one version of a file: a commit, a bucket's version, an ETag or a digest. It
is an address like any other, so that what a log shows can be given again. No address shows a
password or a query, which can be a signature.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from importlib.util import find_spec
from urllib.parse import quote, unquote

from model.remote.extras import install_extra

FORMS = (
    "hf://owner/repo/file, hf://owner/repo@revision/file, s3://bucket/key, gs://bucket/key or "
    "https://host/file#sha256=DIGEST"
)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HUB = re.compile(
    r"hf://(?P<repo>[A-Za-z0-9._-]+/[A-Za-z0-9._-]+)"
    r"(?:@(?P<revision>refs/[^/]+/[^/]+|[^/]+))?/(?P<file>.+)"
)
_BUCKET = re.compile(r"(?P<scheme>s3|gs)://(?P<bucket>[A-Za-z0-9._-]+)/(?P<key>.+)", re.DOTALL)
_VERSION = {
    "s3": re.compile(r"(?P<key>.+)\?versionId=(?P<version>[^?&#/]+)", re.DOTALL),
    "gs": re.compile(r"(?P<key>.+)#(?P<version>\d+)", re.DOTALL),
}
_ETAG = re.compile(r"(?P<key>.+)#etag=(?P<etag>[^?&#/]+)", re.DOTALL)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL)
_VERSION_QUERY = re.compile(r"\?versionId=[^?&#/]+")
_SHA256 = re.compile(r"sha256=([0-9a-fA-F]{64})")
_FILE_URL = re.compile(r"https://[^/]+/(?:.*/)?[^/]+", re.DOTALL)
_NO_MODELS = {"datasets", "spaces", "buckets"}
"""What else ``huggingface_hub`` has under such addresses."""


_NEEDED = {"hf": ("huggingface_hub", "hub"), "s3": ("s3fs", "cloud"), "gs": ("gcsfs", "cloud")}
"""The package that fetches from a kind of address, and the extra that installs it."""


class RemoteError(ValueError):
    """Weights cannot be fetched from their address; the message says why, and what to do."""


@dataclass(frozen=True)
class HubAddress:
    """A file in a model repository of the Hugging Face Hub, or of a hub like it.

    Attributes:
        repo: owner and name.
        revision: a branch, a tag or a commit; None for the main branch.
        file: its path in the repository.
    """

    repo: str
    revision: str | None
    file: str

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a whole commit, which never changes."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None

    @property
    def file_name(self) -> str:
        """The file's name without its folders."""
        return self.file.rpartition("/")[2]

    def at(self, commit: str) -> HubAddress:
        """Return the address of the same file in a commit."""
        return replace(self, revision=commit)

    def __str__(self) -> str:
        revision = self.revision or ""
        if not revision.startswith("refs/"):
            revision = quote(revision, safe="")
        return f"hf://{self.repo}{revision and '@'}{revision}/{self.file}"


@dataclass(frozen=True)
class BucketAddress:
    """An object in a bucket of S3, or of a store that speaks its language, or of Google.

    Attributes:
        scheme: "s3" or "gs".
        bucket: the bucket's name.
        key: the object's name.
        version: S3's version id, or Google's generation; None for the current one.
        etag: of an object in a bucket without versions; None for any.
    """

    scheme: str
    bucket: str
    key: str
    version: str | None = None
    etag: str | None = None

    @property
    def is_pinned(self) -> bool:
        """Whether it names one version."""
        return self.version is not None or self.etag is not None

    @property
    def file_name(self) -> str:
        """The key's last part."""
        return self.key.rpartition("/")[2]

    @property
    def path(self) -> str:
        """The object as fsspec names it, without a version."""
        return f"{self.bucket}/{self.key}"

    def __str__(self) -> str:
        text = f"{self.scheme}://{self.bucket}/{self.key}"
        if self.version is not None:
            mark = "?versionId=" if self.scheme == "s3" else "#"
            return f"{text}{mark}{quote(self.version, safe='')}"
        return text if self.etag is None else f"{text}#etag={quote(self.etag, safe='')}"


@dataclass(frozen=True)
class WebAddress:
    """A file on a web server.

    Attributes:
        url: with user, password and query, as they are sent; without a fragment.
        sha256: of the file, 64 hexadecimal digits in lower case.
    """

    url: str
    sha256: str

    @property
    def is_pinned(self) -> bool:
        """Always: the digest names one file."""
        return True

    @property
    def file_name(self) -> str:
        """The path's last part."""
        return unquote(without_secrets(self.url).rpartition("/")[2])

    def __str__(self) -> str:
        return f"{without_secrets(self.url)}#sha256={self.sha256}"


Address = HubAddress | BucketAddress | WebAddress


def is_address(weights: object) -> bool:
    """Tell whether weights are an address rather than a path or a name."""
    return isinstance(weights, str) and _SCHEME.match(weights) is not None


def parse_address(weights: str) -> Address:
    """Read an address.

    Raises:
        RemoteError: if it is incomplete, or of another kind than ``FORMS``.
    """
    found = _SCHEME.match(weights)
    scheme = found[1].lower() if found else ""
    weights = scheme + weights[len(scheme) :]
    match scheme:
        case "hf":
            return _hub_address(weights)
        case "s3" | "gs":
            return _bucket_address(weights)
        case "https":
            return _web_address(weights)
        case "http":
            raise RemoteError(
                f"{without_secrets(weights)} is not fetched over HTTP, which protects nothing: "
                "give https://host/file#sha256=DIGEST."
            )
    raise RemoteError(f"{without_secrets(weights)} is no address of weights: give {FORMS}.")


def check_address(weights: str) -> Address:
    """Read an address, without any network.

    Raises:
        RemoteError: if it is incomplete, or the package that fetches from it is not installed.
    """
    address = parse_address(weights)
    scheme = str(address).partition("://")[0]
    package, extra = _NEEDED.get(scheme, ("", ""))
    if package and find_spec(package) is None:
        raise RemoteError(f"{address} needs the package {package}: {install_extra(extra)}.")
    return address


def without_secrets(text: str) -> str:
    """Return an address without user, password and query, and any other text as it is."""
    found = _PARTS.fullmatch(text)
    if found is None:
        return text
    scheme, host, path, query, fragment = found.groups(default="")
    kept = query if scheme == "s3" and _VERSION_QUERY.fullmatch(query) else ""
    return f"{scheme}://{host.rpartition('@')[2]}{path}{kept}{fragment}"


def _hub_address(weights: str) -> HubAddress:
    found = _HUB.fullmatch(weights)
    if found is None or found["repo"].partition("/")[0] in _NO_MODELS:
        raise RemoteError(
            f"{without_secrets(weights)} names no file in a model repository: give "
            "hf://owner/repo/file, or hf://owner/repo@revision/file."
        )
    if not {"", ".", ".."}.isdisjoint(found["file"].split("/")):
        raise RemoteError(f"{weights} leads out of its repository.")
    revision = found["revision"]
    return HubAddress(found["repo"], None if revision is None else unquote(revision), found["file"])


def _bucket_address(weights: str) -> BucketAddress:
    found = _BUCKET.fullmatch(weights)
    if found is None or found["key"].endswith("/"):
        scheme = weights[:2]
        raise RemoteError(
            f"{without_secrets(weights)} names no object: give {scheme}://bucket/key. "
            "Credentials stay out of it."
        )
    scheme, bucket, key = found["scheme"], found["bucket"], found["key"]
    version = _VERSION[scheme].fullmatch(key)
    if version is not None:
        return BucketAddress(scheme, bucket, version["key"], version=unquote(version["version"]))
    etag = _ETAG.fullmatch(key)
    if etag is not None:
        return BucketAddress(scheme, bucket, etag["key"], etag=unquote(etag["etag"]))
    return BucketAddress(scheme, bucket, key)


def _web_address(weights: str) -> WebAddress:
    url, _, fragment = weights.partition("#")
    shown = without_secrets(url)
    digest = _SHA256.fullmatch(fragment)
    if _FILE_URL.fullmatch(shown) is None:
        raise RemoteError(f"{shown} names no file: give https://host/file#sha256=DIGEST.")
    if digest is None:
        raise RemoteError(
            f"{shown} needs the file's SHA-256, without which any file would be taken: give "
            f"{shown}#sha256=DIGEST, with the 64 hexadecimal digits that sha256sum prints."
        )
    return WebAddress(url, digest[1].lower())
