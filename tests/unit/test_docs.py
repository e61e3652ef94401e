"""Every path, link and module that the documents name exists; the API page is complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from service.api import schemas
from service.api.errors import all_errors

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "docker").glob("*.md")]
)
PATH = re.compile(r"(?<![\w/.-])(?:service|model|docker|k8s|tests|benchmarks|docs)/[\w/.*-]*[\w/]")
CODE = re.compile(r"`[^`\n]+`|^```.*?^```", re.MULTILINE | re.DOTALL)
MODULE = re.compile(r"`((?:service|model|benchmarks)(?:\.\w+)+)`")
LINK = re.compile(r"\]\(([^)#]*)(?:#([^)]*))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
NO_FILES_HERE = {
    "benchmarks/carried",
    "k8s/back-fill",
    "k8s/production",
    "service/overlock",
    "service/overlock-predictor",
}
"""What the reader makes, and Kubernetes objects."""

HISTORY = {ROOT / "CHANGELOG.md"}
"""Names what is gone, too."""

API = (ROOT / "docs" / "api.md").read_text("utf-8")


def names_of(documents: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in documents]


def anchors_of(document: Path) -> set[str]:
    """Where a link into `document` can lead, by GitHub's rule."""
    headings = HEADING.findall(document.read_text("utf-8"))
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=names_of(DOCUMENTS))
def test_every_path_and_link_leads_somewhere(document: Path) -> None:
    text = document.read_text("utf-8")
    paths = {path for code in CODE.findall(text) for path in PATH.findall(code)}
    missing = [path for path in paths - NO_FILES_HERE if not any(ROOT.glob(path))]
    for link, anchor in LINK.findall(text):
        if "://" in link:
            continue
        target = document.parent / link if link else document
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            missing.append(f"{link}#{anchor}")
    assert missing == []


def is_module_or_in_one(name: str) -> bool:
    """Return whether a dotted name is a module, or a name within one."""
    *parents, last = name.split(".")
    path = ROOT.joinpath(*parents, last)
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    module = ROOT.joinpath(*parents).with_suffix(".py")
    return module.exists() and re.search(rf"\b{last}\b", module.read_text("utf-8")) is not None


@pytest.mark.parametrize("document", DOCUMENTS, ids=names_of(DOCUMENTS))
def test_every_module_that_is_named_exists(document: Path) -> None:
    if document not in HISTORY:
        named = MODULE.findall(document.read_text("utf-8"))
        assert [name for name in named if not is_module_or_in_one(name)] == []


def answers() -> list[type[BaseModel]]:
    return [
        each
        for each in vars(schemas).values()
        if isinstance(each, type) and issubclass(each, BaseModel) and each is not BaseModel
        if not each.__name__.startswith("_")
    ]


@pytest.mark.parametrize("schema", answers(), ids=lambda schema: schema.__name__)
def test_the_api_document_has_every_field(schema: type[BaseModel]) -> None:
    shown = {name.rpartition(".")[2] for name in re.findall(r"`([\w.\[\]]+)`", API)}
    assert schema.model_fields.keys() <= shown


def test_the_api_document_has_every_problem() -> None:
    listed = set(re.findall(r"^\| (\d+) \| `([\w-]+)` \|", API, re.MULTILINE))
    assert listed == {(str(problem.status), problem.slug) for problem in all_errors()}
