"""The forms of an image in a body: what is read kindly, and what is refused by name."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import httpx
import pytest

from support.api_requests import is_problem, photo
from support.service_fakes import FakeEngines

IMAGE = photo(333, 500, "PNG")
BASE64 = base64.b64encode(IMAGE).decode()
URL_SAFE = base64.urlsafe_b64encode(IMAGE).decode()
WRAPPED = base64.encodebytes(IMAGE).decode()


def form(*parts: tuple[str, bytes], boundary: str = "a", end: bytes = b"--a--\r\n") -> bytes:
    """A form's body from each part's disposition and content."""
    return (
        b"".join(
            b"--%s\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n"
            % (boundary.encode(), disposition.encode(), body)
            for disposition, body in parts
        )
        + end
    )


FORM = "multipart/form-data; boundary=a"
FILE = 'name="image"; filename="x.png"'


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", json.dumps({"image": f"data:image/png;base64,{BASE64}"}).encode()),
        ("application/json", json.dumps({"image": f"DATA:;BASE64,{BASE64}"}).encode()),
        (
            "application/json",
            json.dumps({"image": f"data:image/jpeg;name=x.jpg;base64,{BASE64}"}).encode(),
        ),
        (
            "application/json",
            json.dumps({"image": f"data:image/png; base64,{quote(BASE64, safe='')}"}).encode(),
        ),
        ("application/json", json.dumps({"image": WRAPPED}).encode()),
        ("application/json", json.dumps({"image": WRAPPED.replace("\n", "\r\n")}).encode()),
        ("application/json", json.dumps({"image": URL_SAFE}).encode()),
        ("application/json", json.dumps({"image": URL_SAFE.rstrip("=")}).encode()),
        ("application/json", json.dumps({"image": BASE64.rstrip("=")}).encode()),
        ("application/json", json.dumps({"image": BASE64}).replace("/", r"\/").encode()),
        ("application/json", b"\xef\xbb\xbf" + json.dumps({"image": BASE64}).encode()),
        ("application/json; charset=utf-8", json.dumps({"image": BASE64}).encode()),
        ("application/x-www-form-urlencoded", IMAGE),
        ("image/jpeg", IMAGE),
        ("image/svg+xml", IMAGE),
        ("text/plain", IMAGE),
        ("application/json", IMAGE),
        ("multipart/form-data; boundary=a", IMAGE),
        (FORM, form((FILE, IMAGE))),
        (FORM, form((FILE, IMAGE), end=b"--a--")),
        (FORM, form(('name="image"', IMAGE))),
        (FORM, form(('name="file"; filename="x.png"', IMAGE))),
        (FORM, form((FILE + "\r\nContent-Type: text/plain", IMAGE))),
        (FORM, form((FILE + "\r\nContent-Transfer-Encoding: base64", BASE64.encode()))),
    ],
)
async def test_an_image_is_read_in_any_form_that_clients_send(
    client: httpx.AsyncClient, engines: FakeEngines, content_type: str, body: bytes
) -> None:
    await client.post("/v1/classify", content=IMAGE, headers={"Content-Type": "image/png"})
    answer = await client.post("/v1/classify", content=body, headers={"Content-Type": content_type})
    assert answer.status_code == 200, answer.text
    want, got = (image.pixels for image in engines.images)
    assert (got == want).all()


@pytest.mark.parametrize(
    ("content_type", "body", "named"),
    [
        ("application/json", b'{"image": "AAAA", "caption": "x"}', "`caption`"),
        ("application/json", b'{"caption": "x", "image": "AAAA"}', "`caption`"),
        ("application/json", b'{"image": "AAAA", "image": "BBBB"}', "image more than once"),
        ("application/json", rb'{"image": "AA\\", "\u0069mage": "AAAA"}', "image more than once"),
        ("application/json", b'{"image": "AAAA"} x', "trailing"),
        ("application/json", b'{"image": {"image": "AAAA"}}', "$.image"),
        ("application/json", b'{"image": ["AAAA", "AAAA"]}', "$.image"),
        ("application/json", b'{"image": "https://example.com/a.png"}', "never fetched"),
        ("application/json", b'{"image": "data:image/png,abc"}', "data URL"),
        ("application/json", b'{"image": "AAAAA"}', "not base64"),
        ("application/json", b'{"image": "AA=AAA"}', "not base64"),
        ("application/json", '{"image": "AAAA"}'.encode("utf-16"), "JSON"),
        (FORM, form((FILE, IMAGE), ('name="caption"', b"x")), "'caption'"),
        (FORM, form(('name="caption"', b"x"), (FILE, IMAGE)), "'caption'"),
        (FORM, form((FILE, IMAGE), (FILE, IMAGE)), "2 parts named image"),
        (FORM, form((FILE, IMAGE), ('name="b"; filename=""', b"")), "'b'"),
        (FORM, form(('name="picture"', IMAGE)), "'picture'"),
        (FORM, form(*(((f'name="{x}"; filename="x"'), IMAGE) for x in "bc")), "'b', 'c'"),
        (FORM, form(*((f'name="p{x}"', b"x") for x in range(20))), "more than 8 parts"),
        (FORM, form((FILE, IMAGE), end=b""), "closing boundary is missing"),
        (FORM, form((FILE, IMAGE), end=b"--a\r\n"), "closing boundary is missing"),
        (FORM, form((FILE, IMAGE), end=b"--a-"), "closing boundary is missing"),
        (FORM, form((FILE, IMAGE), end=b"")[:-200], "closing boundary is missing"),
        (FORM, form((FILE, IMAGE)) + b"and more", "after its closing boundary"),
        (FORM, 2 * form((FILE, IMAGE)), "after its closing boundary"),
        (FORM, form((FILE, IMAGE)) + b"and --", "after its closing boundary"),
        (FORM, form(end=b"--a--\r\n"), "it has nothing"),
    ],
)
async def test_what_would_not_be_looked_at_is_refused_by_name(
    client: httpx.AsyncClient, content_type: str, body: bytes, named: str
) -> None:
    answer = await client.post("/v1/classify", content=body, headers={"Content-Type": content_type})
    assert named in is_problem(answer, 400, "malformed-request")


async def test_a_key_of_any_length_makes_a_short_problem(client: httpx.AsyncClient) -> None:
    body = {"x" * 50_000: 1, "image": "AAAA"}
    detail = is_problem(await client.post("/v1/classify", json=body), 400, "malformed-request")
    assert len(detail) < 400
    files = {"x" * 50_000: ("a", b"x")} | {"image": ("a", b"x")}
    detail = is_problem(await client.post("/v1/classify", files=files), 400, "malformed-request")
    assert len(detail) < 400


async def test_what_a_type_says_counts_where_the_bytes_say_nothing(
    client: httpx.AsyncClient,
) -> None:
    for content_type in ("text/html", "application/x-www-form-urlencoded", "audio/mpeg"):
        headers = {"Content-Type": content_type}
        answer = await client.post("/v1/classify", content=b"hello", headers=headers)
        assert content_type in is_problem(answer, 415, "unsupported-media")
