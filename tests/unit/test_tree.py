"""The shape of the tree: how full a folder is, how long a file, and which words are gone."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("model", "service", "tests", "benchmarks")
TEXTS = {".py", ".c", ".h", ".js", ".html", ".css"}

MAX_FILES = {"model": 4, "service": 8, "service/web": 6, "service/engine": 10}
"""Python files directly in a folder."""

MAX_LINES = 320

WITHOUT_A_SOURCE = {
    "benchmarks/serving/test_documented_peers.py": "run.py with the peers' own decoding",
    "docker": "tests the files of docker/, which are not Python",
    "k8s": "tests the manifests of k8s/, which are not Python",
    "model/checkpoints/test_damaged_checkpoints.py": "checkpoint.py with damaged files",
    "model/checkpoints/test_dense_checkpoints.py": "checkpoint.py with segmenters and detectors",
    "model/checkpoints/test_strict_loading.py": "checkpoint.py with missing and unexpected keys",
    "model/demo/test_weights.py": "the weights that are part of the package",
    "model/export/test_all_networks.py": "files of every network",
    "model/heads/test_host_waits.py": "no head waits for the host",
    "model/images/test_preprocess_dense.py": "preprocess.py with segmenters and detectors",
    "model/inference/test_networks_on_gpu.py": "whole networks on a CUDA device",
    "model/inference/test_predictor_inputs.py": "predictor.py with other inputs and one class",
    "model/inference/test_predictor_on_gpu.py": "predictor.py on a CUDA device",
    "model/kernels/cpu/test_processors.py": "all CPU kernels on processors that are elsewhere",
    "model/kernels/gpu/test_compiles.py": "compiles all Triton kernels without a GPU",
    "model/kernels/gpu/test_detection.py": "a whole detection by the kernels",
    "model/kernels/gpu/test_specialization.py": "compilations of the kernels at new sizes",
    "model/kernels/gpu/test_symbolic_batches.py": "all operators with a symbolic batch size",
    "model/kernels/gpu/test_traced.py": "operations in PyTorch's compiler",
    "model/pretrained/test_store_processes.py": "store.py in several processes",
    "model/pretrained/test_store_sources.py": "store.py with other sources",
    "model/pretrained/test_transfer_limits.py": "transfer.py at its limits",
    "model/test_training_runs.py": "zoo.py with the files of whole trainings",
    "model/variants/test_forms.py": "whole networks of several shapes, in all forms",
    "model/test_zoo_variants.py": "zoo.py with backbones of one's own",
    "service/client/test_clients.py": "client.py and async_client.py, which behave alike",
    "service/client/test_dependencies.py": "the packages that the client needs",
    "service/commands/download/test_main.py": "__main__.py",
    "service/commands/evaluate/test_inputs.py": "run.py with inputs of a checkpoint's own",
    "service/engine/scheduling/test_batches_behind.py": "scheduler.py with two batches at once",
    "service/engine/scheduling/test_fair_shares.py": "scheduler.py with several tasks",
    "service/engine/scheduling/test_properties.py": "the whole scheduler in simulations",
    "service/engine/test_own_networks.py": "runner.py with networks of one's own shape",
    "service/engine/test_turns.py": "engine.py's turns of batches on the device",
    "service/images/test_hostile_images.py": "all readers with damaged files",
    "service/link/test_link.py": "both ends of the link",
    "test_batch_page.py": "docs/batch.md",
    "test_checkpoint_docs.py": "docs/checkpoints.md",
    "test_deploying.py": "docs/deploying.md",
    "test_docs.py": "all documents",
    "test_explanations_page.py": "docs/explanations.md",
    "test_export_page.py": "docs/export.md",
    "test_image_table.py": "docs/api.md",
    "test_kserve_page.py": "docs/kserve.md",
    "test_kubernetes_recipes_page.py": "docs/kubernetes-recipes.md",
    "test_migrating_page.py": "docs/migrating.md",
    "test_models_file_page.py": "docs/models-file.md",
    "test_observability_page.py": "docs/observability.md",
    "test_playground_pictures.py": "pictures made by tests/support",
    "test_python_page.py": "docs/python.md",
    "test_readme.py": "README.md",
    "test_references.py": "references in docstrings",
    "test_reliability.py": "docs/reliability.md",
    "test_settings_page.py": "docs/settings.md",
    "test_training_docs.py": "docs/training.md",
    "test_tree.py": "the tree",
    "test_triton_pin.py": "the Makefile's Triton",
    "test_wheel.py": "pyproject.toml's wheel",
    "workflows": "tests the workflows of .github/, which are not Python",
}
"""Unit tests that mirror no source file, or folders of such, each with its reason."""

FORBIDDEN_WORDS = ("obstacle", "whoever", "wish", "journey", "lifeline")
"""Also as the beginning of a longer word."""

FORBIDDEN_TEXT = re.compile(r"go_on|come_again|(?<![a-z])asking\b", re.IGNORECASE)

GONE = {
    "Answered", "GivenUpError", "Prepared", "Serving", "_fulfil",
    "Permits", "DecodingLine", "Pace", "Waiting", "Sizing",
    "FlightRecord", "KernelChoices", "measure_what_it_asks", "TensorPart", "native_form",
    "gpu_form", "read_ahead", "obtain", "load_kept", "InProcess",
    "ByService", "Asking", "Ask", "COME_AGAIN", "WORTH_ANOTHER",
    "become", "complain", "settle", "rehearse", "ship",
    "Behaviour", "Measured", "sum_up", "midnight", "refuse_what_comes_too_late",
    "given_up",
}  # fmt: skip
"""Identifiers that have standard names now."""


def files(*endings: str, folders: tuple[str, ...] = FOLDERS) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(ROOT).parts)
            if path.suffix in endings and path != Path(__file__) and not hidden:
                yield path


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@lru_cache(maxsize=1024)
def text_of(path: Path) -> str:
    return path.read_text("utf-8")


@pytest.mark.parametrize("folder", MAX_FILES)
def test_a_folder_holds_few_files(folder: str) -> None:
    assert len(list((ROOT / folder).glob("*.py"))) <= MAX_FILES[folder]


def test_no_file_is_long() -> None:
    lines = {named(path): text_of(path).count("\n") for path in files(".py")}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


def test_public_classes_of_the_service_have_names_of_their_own() -> None:
    names = Counter(
        node.name
        for path in files(".py", folders=("service",))
        for node in ast.parse(text_of(path)).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name: count for name, count in names.items() if count > 1} == {}


def test_helpers_of_tests_lie_in_a_folder() -> None:
    assert [path.name for path in (ROOT / "tests").glob("*.py")] == ["conftest.py"]


def test_unit_tests_mirror_the_sources() -> None:
    unit = ROOT / "tests" / "unit"
    tests = [path.relative_to(unit) for path in sorted(unit.rglob("test_*.py"))]
    excused = [Path(name) for name in WITHOUT_A_SOURCE]
    orphans = [
        test.as_posix()
        for test in tests
        if not (ROOT / test.with_name(test.name.removeprefix("test_"))).exists()
        and not any(test.is_relative_to(excuse) for excuse in excused)
    ]
    assert orphans == []
    assert [name for name in WITHOUT_A_SOURCE if not (unit / name).exists()] == []


def test_forbidden_words_are_nowhere() -> None:
    found = [
        f"{named(path)}: {word}"
        for path in files(*TEXTS)
        for word in forbidden_in(f"{path.name}\n{text_of(path)}")
    ]
    assert found == [], "\n".join(found)


def forbidden_in(text: str) -> list[str]:
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text)}
    return sorted(
        {word for word in words if word.startswith(FORBIDDEN_WORDS)}
        | {match.lower() for match in FORBIDDEN_TEXT.findall(text)}
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("class CompileWish: ...", ["wish"]),
        ("NO_WISHES", ["wishes"]),
        ("go_on()  # Asking", ["asking", "go_on"]),
        ("swish(masking)", []),
    ],
)
def test_a_forbidden_word_is_found_in_a_name(text: str, found: list[str]) -> None:
    assert forbidden_in(text) == found


@pytest.mark.slow
def test_renamed_identifiers_are_gone() -> None:
    found = {
        f"{named(path)}: {token.string}"
        for path in files(".py")
        for token in tokenize.generate_tokens(io.StringIO(text_of(path)).readline)
        if token.type == tokenize.NAME and token.string in GONE
    }
    assert not found, "\n".join(sorted(found))
