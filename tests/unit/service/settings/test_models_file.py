from __future__ import annotations

import os
from pathlib import Path

import pytest

from model.config import Task
from model.images.input_config import InputOptions
from service.settings import ModelSpec, SettingsError, load_settings, specs_of

WHOLE = """\
[scenes]
architecture = "upernet_overlock_s"
weights = "scenes.pth"
mean = [0.5, 0.5, 0.5]

[birds]
architecture = "overlock_t"
weights = "birds.pth"
labels = "birds.txt"
input_size = 384
crop_pct = 1.0
interpolation = "bilinear"
mean = [0.485, 0.456, 0.406]
std = [0.25, 1, 0.5]
activation = "sigmoid"
ema = false
sha256 = "ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB"
default = true
"""


def specs(folder: Path, text: str) -> tuple[ModelSpec, ...]:
    (folder / "models.toml").write_text(text)
    return specs_of(load_settings({"models_file": str(folder / "models.toml")}))


def test_every_key_is_read_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    birds, scenes = specs(tmp_path, WHOLE)
    assert (birds.name, birds.task, birds.architecture) == ("birds", Task.CLASSIFY, "overlock_t")
    assert birds.weights == str(tmp_path / "birds.pth")
    assert birds.labels == tmp_path / "birds.txt"
    assert birds.input == InputOptions(
        384, 1.0, "bilinear", (0.485, 0.456, 0.406), (0.25, 1.0, 0.5)
    )
    assert (birds.activation, birds.ema, birds.sha256) == ("sigmoid", False, "ab" * 32)
    assert birds.blame("weights") == f"{tmp_path}/models.toml, [birds] weights"
    assert (scenes.name, scenes.task) == ("scenes", Task.SEGMENT)
    assert scenes.input == InputOptions(mean=(0.5, 0.5, 0.5))
    assert (scenes.activation, scenes.ema, scenes.sha256, scenes.labels) == (None, True, None, None)


@pytest.mark.parametrize("weights", ["hf://owner/repo/m.pth", "s3://bucket/m.pth"])
def test_an_address_is_relative_to_nothing(tmp_path: Path, weights: str) -> None:
    (spec,) = specs(tmp_path, f'[birds]\narchitecture = "overlock_t"\nweights = "{weights}"\n')
    assert spec.weights == weights


@pytest.mark.parametrize(
    ("text", "task", "weights"),
    [
        ('architecture = "demo"', Task.CLASSIFY, "demo"),
        ('architecture = "demo"\ntask = "segment"', Task.SEGMENT, "demo"),
        ('architecture = "overlock_s"\nweights = "pretrained"', Task.CLASSIFY, "pretrained"),
        (
            'architecture = "mask_rcnn_overlock_t"\nweights = "random"\ntask = "detect"',
            Task.DETECT,
            "random",
        ),
        ('architecture = "overlock_t"\nweights = "/a/b.pth"', Task.CLASSIFY, "/a/b.pth"),
    ],
)
def test_weights_that_are_no_path_keep_their_names(
    tmp_path: Path, text: str, task: Task, weights: str
) -> None:
    (spec,) = specs(tmp_path, f"[a]\n{text}\n")
    assert (spec.task, spec.weights) == (task, weights)


def test_a_backbone_of_ones_own_is_stated_in_a_table_of_its_own(tmp_path: Path) -> None:
    (spec,) = specs(
        tmp_path,
        '[own]\nkind = "cascade_mask_rcnn"\nweights = "own.pth"\n'
        "[own.backbone]\nkernel_sizes = [19, 9, 5, 5]\nsmall_kernel = 3\n",
    )
    assert (spec.task, spec.kind, spec.architecture) == (Task.DETECT, "cascade_mask_rcnn", None)
    assert spec.network == {"kernel_sizes": (19, 9, 5, 5), "small_kernel": 3}


def test_an_empty_backbone_is_the_files(tmp_path: Path) -> None:
    (spec,) = specs(tmp_path, '[own]\nweights = "own.pth"\n[own.backbone]\n')
    assert (spec.task, spec.network) == (Task.CLASSIFY, {})


NEEDED = 'architecture = "overlock_t"\nweights = "x.pth"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "states no model"),
        ("[a", "is not valid TOML"),
        ("x = " + "[" * 5000, "is not valid TOML"),
        ('["a\\u001b[31m\\n"]', r"\['a\\x1b\[31m\\n'\]: a name has"),
        ('[a]\n"\\u001b" = 1', r"no key '\\x1b'"),
        ("[a]\nbackbone = [1]", "backbone: it is a table of its own"),
        ('architecture = "demo"', "architecture is outside of any table"),
        ("[a]", r"\[a\]: architecture is missing, or a table of its own backbone"),
        ('[a]\nkind = "upernet"\n' + NEEDED, r"\[a\] kind: overlock_t says what it is"),
        (f"[a]\n{NEEDED}[a.backbone]", "architecture: a network on a backbone of one's own"),
        ('[a]\nweights = "x"\ntask = "detect"\n[a.backbone]', "task: a network on a backbone"),
        ('[a]\nweights = "x"\nkind = "fcn"\n[a.backbone]', "kind: input should be 'classifier'"),
        ('[a]\nweights = "x"\n[a.backbone]\ndepth = [1]', "no key depth. Is it depths"),
        ("[a]\n[a.backbone]", "weights are missing"),
        (
            '[a]\nweights = "random"\n[a.backbone]\nsmall_kernel = 3',
            r"\[a.backbone\]: random weights need depths, focus_depths, channels, focus_heads",
        ),
        (
            '[a]\nweights = "random"\n[a.backbone]\ndepths = [1, 1, 1, 1]\nfocus_depths = [1, 1]\n'
            "channels = [8, 16, 32, 36]\nfocus_heads = [1, 2]",
            r"BackboneConfig.channels is .* not divisible by 4 times",
        ),
        ('[a]\narchitecture = "overlock_t"', r"\[a\] weights are missing"),
        (
            '[a]\narchitecture = "overlok_t"\nweights = "x"',
            'there is no "overlok_t". Is it overlock_t',
        ),
        (f"[a]\n{NEEDED}crop_ptc = 1", r"\[a\]: there is no key crop_ptc. Is it crop_pct"),
        (
            f"[a.v2]\n{NEEDED}",
            r'\[a\]: there is no key v2. A name with a dot has quotes: \["a.v2"\]',
        ),
        (f"[a]\n{NEEDED}[a.backbon]", r"\[a\]: there is no key backbon. Is it backbone"),
        ('[a]\narchitecture = "demo"\nweights = ""', r"weights: it is empty \(given: ''\)"),
        (
            '[a]\narchitecture = "demo"\nweights = "\\u0000"',
            r"weights: it contains the character 0",
        ),
        ('[a]\narchitecture = "demo"\nlabels = "\\u0000"', r"labels: it contains the character 0"),
        (f"[a]\n{NEEDED}zzz = 1", "There are architecture, backbone, kind, weights"),
        (f'[a]\n{NEEDED}task = "segment"', 'task is "segment", but overlock_t can classify'),
        (f"[a]\n{NEEDED}input_size = 16", "input_size is 16; it is from 32 to 4096"),
        (f'[a]\n{NEEDED}input_size = "224"', r"valid integer \(given: '224'\)"),
        (f"[a]\n{NEEDED}input_size = true", "input_size: input should be a valid integer"),
        (f"[a]\n{NEEDED}crop_pct = 1.5", "crop_pct is 1.5; it is from 0.1 to 1"),
        (f"[a]\n{NEEDED}crop_pct = nan", "crop_pct is nan"),
        (f'[a]\n{NEEDED}interpolation = "lanczos"', "interpolation: .*'bicubic' or 'bilinear'"),
        (
            f"[a]\n{NEEDED}std = [0.1, 0, 0.1]",
            r"std is 0\.1 0\.0 0\.1; its values are from 0\.001 to 1",
        ),
        (f"[a]\n{NEEDED}mean = [inf, 0, 0.1]", "mean is inf .*from 0 to 1"),
        (f"[a]\n{NEEDED}mean = [123.7, 116.3, 103.5]", "mean is 123.7 .*from 0 to 1"),
        (f"[a]\n{NEEDED}mean = [true, true, true]", r"mean: .* number \(given: True\)"),
        (f"[a]\n{NEEDED}mean = [1, 1, 1, 1]", "mean: .*3 at most .given: .1, 1, 1, 1"),
        (f"[a]\n{NEEDED}mean = []", "mean: it has a value for each channel"),
        (f"[a]\n{NEEDED}mean = 0.5", r"mean: it is a list, .* \(given: 0\.5\)"),
        (f'[a]\n{NEEDED}activation = "relu"', "activation: .*'softmax' or 'sigmoid'"),
        (f'[a]\n{NEEDED}ema = "no"', "ema: input should be a valid boolean"),
        (f'[a]\n{NEEDED}sha256 = "abc"', "sha256: it is 64 hexadecimal digits"),
        (
            '[a]\narchitecture = "upernet_overlock_t"\nweights = "x"\ninput_size = 64',
            "input_size can be set for a classifier alone",
        ),
        (
            '[a]\narchitecture = "upernet_overlock_t"\nweights = "x"\nactivation = "sigmoid"',
            "activation can be set for a classifier alone",
        ),
        (
            f"[a]\n{NEEDED}default = true\n[b]\n{NEEDED}default = true",
            r"\[a\] and \[b\] are all the default to classify; leave one",
        ),
        (f'["a b"]\n{NEEDED}', "1 to 64 letters"),
        (f"[{'a' * 65}]\n{NEEDED}", "1 to 64 letters"),
    ],
)
def test_a_mistake_is_told_by_file_table_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refusal:
        specs(tmp_path, text)
    assert "models.toml" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_mark_of_byte_order_before_the_text_is_no_mistake(tmp_path: Path) -> None:
    (spec,) = specs(tmp_path, f"\ufeff[a]\n{NEEDED}")
    assert spec.name == "a"


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refusal:
        specs(tmp_path, "[a]\nx = 1\n[b]\ny = 2\n")
    assert len(str(refusal.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.toml", "cannot be read: No such file or directory"),
        ("pipe", "is not a file"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_its_setting(
    tmp_path: Path, name: str, reason: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / name
    with pytest.raises(SettingsError) as refusal:
        specs_of(load_settings({"models_file": str(path)}))
    assert str(refusal.value) == f"OVERLOCK_MODELS_FILE: {path} {reason}."


def test_a_path_is_not_taken_for_the_name_of_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models.toml").write_text('[a]\narchitecture = "overlock_t"\nweights = "./random"\n')
    (spec,) = specs_of(load_settings({"models_file": "models.toml"}))
    assert spec.weights == "./random"


@pytest.mark.parametrize("name", ["classify_model", "segment_labels", "detect_weights"])
def test_variables_beside_the_file_are_refused_by_name(name: str) -> None:
    with pytest.raises(SettingsError, match=f"unset OVERLOCK_{name.upper()}$"):
        load_settings({"models_file": "models.toml", name: "demo"})


def test_a_task_that_is_off_may_be_stated_beside_the_file() -> None:
    settings = load_settings({"models_file": "m.toml", "segment_model": "off"})
    variables = settings.as_environment()
    assert variables == {"OVERLOCK_MODELS_FILE": "m.toml", "OVERLOCK_SEGMENT_MODEL": "off"}
