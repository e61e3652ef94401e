"""Heads, against the rules of RFC 9112 and another reader of them."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.errors import BodyTooLargeError, MalformedRequestError, ServiceError
from service.web.http.incoming import Counted, Incoming, parse_head

HEAD = b"POST /v1/classify?top_k=3 HTTP/1.1\r\nHost: a.b:80\r\nContent-Length: 07\r\nA:  b c\t"


def test_a_head_is_split_into_its_parts() -> None:
    head = parse_head(HEAD)
    assert (head.method, head.path, head.query) == (b"POST", "/v1/classify", b"top_k=3")
    assert head.headers == [(b"host", b"a.b:80"), (b"content-length", b"07"), (b"a", b"b c")]
    assert (head.body_bytes, head.keeps_alive, head.expects_continue) == (7, True, False)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", b""),
        (b"/a%20b%C3%A9", "/a bé", b""),
        (b"/a%FFb", "/a\ufffdb", b""),
        (b"/a?b?c", "/a", b"b?c"),
        (b"http://h", "/", b""),
        (b"HTTP://h:1?x", "/", b"x"),
        (b"https://h/a/b?c", "/a/b", b"c"),
        (b"//h/a", "//h/a", b""),
    ],
)
def test_a_target_has_a_path_and_a_query(target: bytes, path: str, query: bytes) -> None:
    head = parse_head(b"GET " + target + b" HTTP/1.1\r\nHost: h")
    assert (head.path, head.query) == (path, query)


@pytest.mark.parametrize("target", [b"a", b"*", b"ftp://h/", b"http://", b"http://u@h/", b"/a#b"])
def test_what_is_no_target_is_refused(target: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        parse_head(b"GET " + target + b" HTTP/1.1\r\nHost: h")


@pytest.mark.parametrize(
    ("version", "connection", "keeps_alive"),
    [
        (b"1.1", b"keep-alive", True),
        (b"1.1", b"foo, Close", False),
        (b"1.1", b"closed", True),
        (b"1.0", b"keep-alive", False),
        (b"1.7", b"x", True),
    ],
)
def test_who_keeps_a_connection(version: bytes, connection: bytes, keeps_alive: bool) -> None:
    head = parse_head(b"GET / HTTP/" + version + b"\r\nHost: h\r\nConnection: " + connection)
    assert head.keeps_alive == keeps_alive


def test_a_length_with_many_zeros_is_what_it_says() -> None:
    assert parse_head(HEAD.replace(b"07", b"0" * 5000 + b"12")).body_bytes == 12
    with pytest.raises(BodyTooLargeError):
        parse_head(HEAD.replace(b"07", b"1" + b"0" * 18))


PIECES = st.sampled_from(
    [
        *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b"\xe9", b"/", b"?", b"#", b"%"),
        *(b"GET", b"post", b"*", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"http://h/", b"a", b"1"),
        *(b"Host: h", b"Host:", b"Content-Length: 3", b"Content-Length:", b"Expect: 100-continue"),
        *(b"Transfer-Encoding: chunked", b"Transfer-Encoding:", b"chunked", b"Connection: close"),
    ]
)


@given(
    before=st.lists(PIECES, max_size=2),
    between=st.lists(PIECES, max_size=2),
    after=st.lists(PIECES, max_size=6),
)
def test_another_parser_understands_what_is_accepted_alike(
    before: list[bytes], between: list[bytes], after: list[bytes]
) -> None:
    line = b"GET /a" + b"".join(before) + b" HTTP/1.1" + b"".join(between) + b"\r\n"
    data = line + b"Host: h\r\nA: b" + b"".join(after)
    if b"\r\n\r\n" in data:
        return
    try:
        head = parse_head(data)
    except ServiceError:
        return
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(data + b"\r\n\r\n")
    request = reader.next_event()
    assert isinstance(request, h11.Request)
    assert request.method == head.method
    assert list(request.headers) == head.headers
    path, _, query = request.target.partition(b"?")
    assert path == head.raw_path
    assert query == head.query
    assert request.http_version.decode() == head.version
    following = reader.next_event()
    has_body = head.body_bytes != 0
    assert (following is h11.NEED_DATA) == has_body


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_body_of_a_declared_length_ends_after_it(cut: int) -> None:
    body, taken, rest = Counted(7), b"", b""
    for piece in (b"0123456789"[:cut], b"0123456789"[cut:]):
        if body.complete:
            rest += piece
        elif piece:
            part, rest = body.take(piece)
            taken += part
    assert (taken, rest, body.complete) == (b"0123456", b"789", True)


def test_what_follows_a_body_is_the_next_head() -> None:
    incoming = Incoming()
    incoming.add(HEAD + b"\r\n\r\n0123456" + HEAD + b"\r\n\r\n0")
    assert incoming.take_head() is not None
    assert incoming.take_body() == b"0123456"
    assert incoming.body is None
    assert incoming.take_head() is not None
    assert incoming.take_body() == b"0"
    assert incoming.body is not None
