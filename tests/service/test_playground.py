from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

FOLDER = Path(__file__).parents[2] / "service/web/playground"
FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())


async def test_the_front_is_the_page(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>OverLoCK playground</title>" in answer.text
    assert (await client.head("/")).headers["etag"] == answer.headers["etag"]


async def test_the_page_allows_its_own_files_alone(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    policy = dict(
        directive.split(" ", 1)
        for directive in answer.headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in str(policy)
    scripts = re.findall(r"<script([^>]*)>([^<]*)", answer.text)
    assert scripts
    assert all("src=" in attributes and not body for attributes, body in scripts)
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", answer.text)


@pytest.mark.parametrize("path", [path for path in FILES if path != "index.html"])
async def test_every_part_is_served_and_asked_for_again_only_when_it_changed(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(f"/playground/{path}")
    assert answer.status_code == 200
    assert answer.content == (FOLDER / path).read_bytes()
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    known = {"If-None-Match": f'"other", W/{answer.headers["etag"]}'}
    again = await client.get(f"/playground/{path}", headers=known)
    assert (again.status_code, again.content) == (304, b"")
    changed = await client.get(f"/playground/{path}", headers={"If-None-Match": '"other"'})
    assert changed.status_code == 200


async def test_all_that_a_part_names_exists_and_nothing_lies_unnamed(
    client: httpx.AsyncClient,
) -> None:
    front = (await client.get("/")).text
    waiting = [
        urljoin("/", link)
        for link in re.findall(r'(?:src|href|data-example)="([^"#]+)"', front)
        if link.startswith("playground/")
    ]
    seen = set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        answer = await client.get(path)
        assert answer.status_code == 200, path
        if path.endswith((".js", ".css")):
            links = re.findall(r'(?:from |url\()"([^"]+)"', answer.text)
            waiting += [urljoin(path, link) for link in links]
    # The licence lies beside the font that it is about.
    expected = {f"/playground/{path}" for path in FILES} - {
        "/playground/index.html",
        "/playground/fonts/OFL.txt",
    }
    assert seen == expected


def test_no_part_names_another_host() -> None:
    for path in FILES:
        if path.endswith((".html", ".css", ".js", ".svg")):
            text = (FOLDER / path).read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?:|[\"'(]//", text), path


@pytest.mark.parametrize(
    "path", ["none.js", "index.html", "", "../app.py", "%2e%2e/app.py", "scripts/"]
)
async def test_there_is_no_other_part(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"/playground/{path}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
