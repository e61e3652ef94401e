"""What a client sends: heads, whose grammar is here, and bodies.

Stricter than RFC 9112 requires wherever two readers could understand a request differently: bare
line feeds, folded lines, a space before a colon, or two statements about the body's length are
refused. Every judgement depends on the bytes alone, not on the pieces in which they arrive.

Source: RFC 9112, sections 2 to 6; RFC 9110, sections 5, 7.2 and 10.1.1.
"""

from __future__ import annotations

import re
import reprlib
import string
from dataclasses import dataclass
from ipaddress import IPv6Address
from urllib.parse import unquote

from service.api.errors import (
    BodyTooLargeError,
    ExpectationError,
    HttpVersionError,
    MalformedRequestError,
    TransferCodingError,
)
from service.web.http.chunks import Chunked
from service.web.http.head_limits import MAX_FIRST_LINE_BYTES, MAX_HEAD_BYTES, check_beginning

MAX_PORT = 65535

MAX_LENGTH_DIGITS = 18
"""Maximum digits of a Content-Length; more bytes than that no one can send."""

_TOKEN_BYTES = (string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~").encode()
_HEAD_BYTES = b"\t\r\n" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
_FIRST_LINE = re.compile(rb"([^ ]+) ([\x21\x22\x24-\x7e]+) HTTP/([0-9])\.([0-9])")
_ABSOLUTE = re.compile(rb"https?://([^/?]+)(.*)", re.IGNORECASE)
_HOST = re.compile(
    rb"((?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+|\[[0-9A-Fa-f:.]+\])(?::0*([0-9]{0,5}))?"
)
_SPECIAL = {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"}


@dataclass(slots=True)
class Head:
    """A request's first line and headers.

    Attributes:
        method: as sent.
        raw_path: of the target, as sent; ``*`` for a question about the server as a whole.
        query: of the target, as sent, without the question mark.
        version: ``1.0`` or ``1.1``.
        headers: in their order, names in lower case.
        body_bytes: length of the body; None if it comes in chunks.
        keeps_alive: whether the client may send another request on the connection.
        expects_continue: whether it waits for permission to send the body.
    """

    method: bytes
    raw_path: bytes
    query: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    body_bytes: int | None
    keeps_alive: bool
    expects_continue: bool

    @property
    def path(self) -> str:
        """The path, decoded."""
        path = self.raw_path.decode("ascii")
        return unquote(path) if "%" in path else path


class Counted:
    """A body of a declared length.

    Args:
        body_bytes: its length, at least 1.

    Attributes:
        left_bytes: how much of it has not arrived.
        complete: whether all of it has arrived.
    """

    def __init__(self, body_bytes: int) -> None:
        self.left_bytes = body_bytes
        self.complete = False

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Split what arrived into a part of the body, and what follows the body."""
        size_bytes = len(data)
        if size_bytes < self.left_bytes:
            self.left_bytes -= size_bytes
            return data, b""
        body, rest = data[: self.left_bytes], data[self.left_bytes :]
        self.left_bytes, self.complete = 0, True
        return body, rest


class Incoming:
    """What a client sends, split into heads and bodies, however it is cut into pieces.

    Attributes:
        pending: what was not taken yet.
        body: the body that is being received; None outside of one.
    """

    def __init__(self) -> None:
        self.pending = b""
        self.body: Counted | Chunked | None = None
        self._searched_bytes = 0

    def add(self, data: bytes) -> None:
        """Take a piece from the network."""
        self.pending = self.pending + data if self.pending else data

    def take_head(self) -> Head | None:
        """Return the next request's head, after which ``body`` is its body; None if it goes on.

        Raises:
            ServiceError: as ``parse_head`` and ``check_beginning`` do.
        """
        # Line breaks may precede a request.
        data = self.pending = self.pending.lstrip(b"\r\n")
        end = data.find(b"\r\n\r\n", max(self._searched_bytes - 3, 0), MAX_HEAD_BYTES)
        if end < 0:
            check_beginning(data, self._searched_bytes)
            self._searched_bytes = len(data)
            return None
        self._searched_bytes = 0
        head = parse_head(data[:end])
        self.pending = data[end + 4 :]
        if head.body_bytes != 0:
            self.body = Chunked() if head.body_bytes is None else Counted(head.body_bytes)
        return head

    def take_body(self) -> bytes:
        """Return what has arrived of the body; ``body`` is None after its last byte.

        Raises:
            ServiceError: as ``Chunked.take`` does.
        """
        assert self.body is not None
        part, self.pending = self.body.take(self.pending)
        if self.body.complete:
            self.body = None
        return part

    def clear(self) -> None:
        """Forget everything that was not taken yet."""
        self.pending, self.body = b"", None


def parse_head(data: bytes) -> Head:
    """Parse a head.

    Args:
        data: up to the two line breaks that end it, without them.

    Raises:
        MalformedRequestError: if it is not as RFC 9112 has it, or can be understood in two ways.
        TargetTooLongError: if the first line is too long.
        BodyTooLargeError: if the declared length has too many digits.
        ExpectationError: if the client expects something else than 100-continue.
        HttpVersionError: if the version is not 1.0 or 1.1.
        TransferCodingError: if the body has another transfer coding than chunked.
    """
    first_line, *lines = data.split(b"\r\n")
    breaks = len(lines)
    if (
        len(first_line) > MAX_FIRST_LINE_BYTES
        or data.count(b"\r") != breaks
        or data.count(b"\n") != breaks
        or data.translate(None, _HEAD_BYTES)
    ):
        check_beginning(data + b"\r\n\r\n")
    method, target, version = _parse_first_line(first_line)
    headers: list[tuple[bytes, bytes]] = []
    special: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, value = parse_field(line)
        headers.append((name, value))
        if name in _SPECIAL:
            special.setdefault(name, []).append(value)
    _check_host(special.get(b"host", []), version)
    raw_path, _, query = _origin_form(target, method).partition(b"?")
    connection = b",".join(special.get(b"connection", [])).lower() if special else b""
    return Head(
        method=method,
        raw_path=raw_path,
        query=query,
        version=version,
        headers=headers,
        body_bytes=_body_bytes(special, version),
        keeps_alive=version == "1.1"
        and b"close" not in [token.strip() for token in connection.split(b",")],
        expects_continue=_expects_continue(special.get(b"expect", []), version),
    )


def parse_field(line: bytes) -> tuple[bytes, bytes]:
    """Return a header's or a trailer's name, in lower case, and its value.

    Raises:
        MalformedRequestError: if the line has no colon, or the name is none.
    """
    name, colon, value = line.partition(b":")
    if not colon or not name or name.translate(None, _TOKEN_BYTES):
        # Also a folded line, which begins with a space.
        raise MalformedRequestError(f"{_shown(line)} is no header.")
    return name.lower(), value.strip(b" \t")


def _parse_first_line(line: bytes) -> tuple[bytes, bytes, str]:
    matched = _FIRST_LINE.fullmatch(line)
    if matched is None or matched[1].translate(None, _TOKEN_BYTES):
        raise MalformedRequestError(f"{_shown(line)} is no request line of HTTP/1.1.")
    method, target, major, minor = matched.groups()
    if major != b"1":
        raise HttpVersionError(version=f"{major.decode()}.{minor.decode()}")
    return method, target, "1.0" if minor == b"0" else "1.1"


def _origin_form(target: bytes, method: bytes) -> bytes:
    """Return a target's path and query."""
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or not _is_host(absolute[1]):
        raise MalformedRequestError(f"{_shown(target)} is neither a path nor a URL.")
    rest: bytes = absolute[2]
    return rest if rest.startswith(b"/") else b"/" + rest


def _check_host(hosts: list[bytes], version: str) -> None:
    if not hosts and version == "1.0":
        return
    if len(hosts) != 1:
        raise MalformedRequestError(f"There are {len(hosts)} Host headers; there has to be one.")
    if not _is_host(hosts[0]):
        raise MalformedRequestError(f"Host is {_shown(hosts[0])}, which is no host.")


def _is_host(value: bytes) -> bool:
    """Return whether a value is a name or an address, perhaps with a port (RFC 3986, 3.2.2)."""
    matched = _HOST.fullmatch(value)
    if matched is None or int(matched[2] or b"0") > MAX_PORT:
        return False
    if not value.startswith(b"["):
        return True
    try:
        IPv6Address(matched[1][1:-1].decode("ascii"))
    except ValueError:
        return False
    return True


def _body_bytes(special: dict[bytes, list[bytes]], version: str) -> int | None:
    """Return the body's length, None if it comes in chunks."""
    lengths, codings = special.get(b"content-length", []), special.get(b"transfer-encoding")
    if codings is not None:
        _check_codings(codings, version)
        if lengths:
            raise MalformedRequestError("There are Content-Length and Transfer-Encoding.")
        return None
    if not lengths:
        return 0
    if len(lengths) > 1:
        raise MalformedRequestError(f"There are {len(lengths)} Content-Length headers.")
    if not lengths[0].isdigit():
        raise MalformedRequestError(f"Content-Length is {_shown(lengths[0])}, which is no length.")
    if len(lengths[0].lstrip(b"0")) > MAX_LENGTH_DIGITS:
        raise BodyTooLargeError(limit_bytes=10**MAX_LENGTH_DIGITS)
    return int(lengths[0][-MAX_LENGTH_DIGITS:])


def _check_codings(codings: list[bytes], version: str) -> None:
    if version == "1.0":
        raise MalformedRequestError("HTTP/1.0 has no Transfer-Encoding.")
    names = [coding.strip(b" \t").lower() for coding in b",".join(codings).split(b",")]
    unknown = [name for name in names if name != b"chunked"]
    if b"" in names:
        # An empty element means nothing, but other readers differ on what is left of the list.
        raise MalformedRequestError("Transfer-Encoding is empty, or has an empty element.")
    if unknown:
        raise TransferCodingError(coding=_shown(unknown[0]))
    if len(names) > 1:
        raise MalformedRequestError("Transfer-Encoding is chunked more than once.")


def _expects_continue(expectations: list[bytes], version: str) -> bool:
    if not expectations or version == "1.0":
        return False
    for each in b",".join(expectations).split(b","):
        if each.strip(b" \t").lower() != b"100-continue":
            raise ExpectationError(expectation=_shown(each.strip(b" \t")))
    return True


def _shown(value: bytes) -> str:
    """Return bytes of a caller as text for a problem, shortened."""
    return reprlib.repr(value.decode("latin-1"))
