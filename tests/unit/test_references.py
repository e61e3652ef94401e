"""References in model/ and service/ lead somewhere: sources, documents, paths and names."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("model", "service") for path in (ROOT / folder).rglob("*.py"))
NATIVE = sorted((ROOT / "model").rglob("*.[ch]"))

UNREACHABLE = ("overlock.md", "serving.md", "STYLE.md", "native_reference")
"""Documents and files that a reader of this repository cannot find."""

PROJECTS = "Apache Arrow|Pillow|mmcv|mmdetection|mmsegmentation|pycocotools|timm"
FOLLOWABLE = re.compile(
    rf"arXiv:\d{{4}}\.\d{{5}}|RFC \d+|https://|github\.com/\w|\w+/OverLoCK"
    rf"|(?:{PROJECTS})[\s\S]*?(?:``|\d\.\d)"
)
"""A paper, a standard, an address, or a public project with its version or a name in it."""

SOURCE = re.compile(r"^[ #]*Source: (.*(?:\n[ #]*\S.*)*)", re.MULTILINE)
DOCUMENT = re.compile(r"\b(?:docs|docker|k8s|benchmarks|tests)/[\w/.-]*\w\.md\b")
QUOTED = re.compile(r"``([^`\n]+)``")
DOTTED = re.compile(r"(?:model|service)(?:\.\w+)+")
PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)+\.(?:py|md|c|h|json|npz|txt|toml|yaml)")
IDENTIFIER = re.compile(r"_*[a-z0-9]+(?:_[a-z0-9]+)+|[A-Z]\w*")
"""snake_case, CamelCase or a constant; a plain word may be a value."""
CALL = re.compile(r"\([^()]*\)$")


def prose_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and text of every docstring and comment."""
    text = path.read_text("utf-8")
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(prose))):
                yield node.lineno, prose
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def named(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT).as_posix()}:{line}"


def test_sources_can_be_followed() -> None:
    found = []
    for path in SOURCES:
        for line, prose in prose_of(path):
            for source in SOURCE.findall(prose):
                documents = DOCUMENT.findall(source)
                missing = [name for name in documents if not (ROOT / name).exists()]
                if missing or not (documents or FOLLOWABLE.search(source)):
                    found.append(f"{named(path, line)}: {' '.join(source.split())}")
    assert found == [], "\n".join(found)


def test_nothing_names_a_file_that_readers_do_not_have() -> None:
    found = [
        f"{path.relative_to(ROOT).as_posix()}: {name}"
        for path in [*SOURCES, *NATIVE]
        for name in UNREACHABLE
        if name in path.read_text("utf-8")
    ]
    assert found == [], "\n".join(found)


@pytest.mark.slow
def test_quoted_names_exist() -> None:
    found = [
        f"{named(path, line)}: {name}"
        for path in SOURCES
        for line, prose in prose_of(path)
        for name in QUOTED.findall(SOURCE.sub("", prose))
        if not exists(CALL.sub("", name), path)
    ]
    assert found == [], "\n".join(found)


def exists(name: str, path: Path) -> bool:
    """Return whether a quoted name stands for something; what is no name is not judged."""
    if DOTTED.fullmatch(name):
        return resolves(name)
    if PATH.fullmatch(name):
        return any((folder / name).exists() for folder in (ROOT, *path.parents))
    parts = name.split(".")
    if all(part.isidentifier() for part in parts):
        return all(part in identifiers() for part in parts if IDENTIFIER.fullmatch(part))
    return True


def resolves(name: str) -> bool:
    """Follow a dotted name through packages, modules, and the members of a class."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ROOT.joinpath(*parts[:length])
        if module.is_dir() and length == len(parts):
            return True
        file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
        if file.exists():
            return defines(ast.parse(file.read_text("utf-8")), parts[length:])
    return False


def defines(scope: ast.AST, parts: list[str]) -> bool:
    """Return whether a module, class or function defines a name, and so on inside of it."""
    if not parts:
        return True
    for node in ast.walk(scope):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) if name == parts[0]:
                return defines(node, parts[1:])
            case ast.AsyncFunctionDef(name=name) if name == parts[0]:
                return len(parts) == 1
            case ast.Name(id=name, ctx=ast.Store()) if name == parts[0]:
                return len(parts) == 1
            case ast.Attribute(attr=name, ctx=ast.Store()) if name == parts[0]:
                return len(parts) == 1
    return False


@lru_cache(maxsize=1)
def identifiers() -> frozenset[str]:
    """Collect the names that code uses, also as keys in strings, and those of the C kernels."""
    names: set[str] = set()
    for folder in ("model", "service", "tests", "benchmarks", "docker"):
        for path in (ROOT / folder).rglob("*.py"):
            if path == Path(__file__) or ".venvs" in path.parts:  # other people's packages
                continue
            for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
                if token.type == tokenize.NAME:
                    names.add(token.string)
                elif token.type == tokenize.STRING and not token.string.startswith(('"""', 'r"""')):
                    names.update(re.findall(r"\w+", token.string))
    for path in NATIVE:
        names.update(re.findall(r"\w+", path.read_text("utf-8")))
    return frozenset(names)


@pytest.mark.parametrize(
    ("name", "exists_here"),
    [
        ("model.heads.rpn", True),
        ("model.heads", True),
        ("service.api.errors.ServiceError.status", True),
        ("service.web.permits", False),
        ("service.api.errors.no_such_error", False),
    ],
)
def test_a_dotted_name_is_followed(name: str, exists_here: bool) -> None:
    assert resolves(name) == exists_here


@pytest.mark.parametrize(
    ("source", "followable"),
    [
        ("OverLoCK (arXiv:2502.20087), figure 2.", True),
        ("mmdetection 2.28 (``AnchorGenerator``).", True),
        ("Pillow, ``src/libImaging/Resample.c``.", True),
        ("the authors' configuration.", False),
        ("a book on my shelf.", False),
    ],
)
def test_a_source_that_leads_nowhere_is_found(source: str, followable: bool) -> None:
    assert bool(FOLLOWABLE.search(source)) == followable
