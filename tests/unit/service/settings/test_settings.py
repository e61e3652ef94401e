from __future__ import annotations

from pathlib import Path

import pytest

from model.config import Task
from service.settings import PREFIX, Settings, SettingsError, load_settings, specs_of


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)


def test_a_variable_sets_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLOCK_MAX_BATCH_SIZE", "4")
    assert load_settings().max_batch_size == 4


def test_an_override_wins_over_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLOCK_PORT", "9000")
    assert load_settings({"port": "9001"}).port == 9001


@pytest.mark.parametrize(("given", "port"), [("off", None), ("0", 0), ("8001", 8001)])
def test_the_grpc_port_is_a_number_or_off(
    monkeypatch: pytest.MonkeyPatch, given: str, port: int | None
) -> None:
    assert load_settings().grpc_port is None
    monkeypatch.setenv("OVERLOCK_GRPC_PORT", given)
    settings = load_settings()
    assert settings.grpc_port == port
    assert settings.as_environment().get("OVERLOCK_GRPC_PORT") == (None if port is None else given)


@pytest.mark.parametrize("given", ["on", "65536", "-1"])
def test_another_grpc_port_is_refused_in_one_sentence(given: str) -> None:
    with pytest.raises(SettingsError, match=r"^OVERLOCK_GRPC_PORT: [^\n]+$"):
        load_settings({"grpc_port": given})


def test_a_misspelt_variable_stops_the_start_and_names_the_right_one() -> None:
    with pytest.raises(SettingsError, match=r"OVERLOCK_MAX_BATCHSIZE.*OVERLOCK_MAX_BATCH_SIZE"):
        load_settings(environment={"OVERLOCK_MAX_BATCHSIZE": "4", "PATH": "/bin"})


LINKS = {
    "OVERLOCK_PREDICTOR_SERVICE_HOST": "10.0.0.1",
    "OVERLOCK_PREDICTOR_SERVICE_PORT": "80",
    "OVERLOCK_PREDICTOR_SERVICE_PORT_HTTP": "80",
    "OVERLOCK_PREDICTOR_PORT": "tcp://10.0.0.1:80",
    "OVERLOCK_PREDICTOR_PORT_80_TCP": "tcp://10.0.0.1:80",
    "OVERLOCK_PREDICTOR_PORT_80_TCP_ADDR": "10.0.0.1",
}


def test_service_links_stop_no_start() -> None:
    load_settings(environment=LINKS)
    own = {name.replace("_PREDICTOR", ""): value for name, value in LINKS.items()}
    load_settings(environment=own)


def test_docker_links_stop_no_start() -> None:
    link = {
        "OVERLOCK_CACHE_NAME": "/web/overlock-cache",
        "OVERLOCK_CACHE_PORT": "tcp://172.17.0.5:6379",
        "OVERLOCK_CACHE_PORT_6379_TCP": "tcp://172.17.0.5:6379",
        "OVERLOCK_CACHE_PORT_6379_TCP_PROTO": "tcp",
        "OVERLOCK_CACHE_PORT_6379_TCP_PORT": "6379",
        "OVERLOCK_CACHE_PORT_6379_TCP_ADDR": "172.17.0.5",
        "OVERLOCK_CACHE_ENV_REDIS_VERSION": "7",
    }
    load_settings(environment=link)
    for wrong in ({"OVERLOCK_CACHE_NAME": "x"}, link | {"OVERLOCK_CACHE_MODEL": "demo"}):
        with pytest.raises(SettingsError, match="There is no setting OVERLOCK_CACHE_"):
            load_settings(environment=wrong)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("OVERLOCK_OTHER_SERVICE_HOST", "OVERLOCK_PREDICTOR_PORT"),
        ("OVERLOCK_PREDICTOR_SERVICE_HOST", "OVERLOCK_PREDICTOR_PORTS"),
        ("OVERLOCK_PREDICTOR_SERVICE_HOST", "OVERLOCK_PREDICTOR_MODEL"),
        ("OVERLOCKED_SERVICE_HOST", "OVERLOCK_PRT"),
        ("PATH", "OVERLOCK_SERVICE_PORT"),
    ],
)
def test_what_is_no_service_link_is_misspelt(host: str, name: str) -> None:
    with pytest.raises(SettingsError, match=f"no setting {name}"):
        load_settings(environment={host: "10.0.0.1", name: "tcp://10.0.0.1:80"})


def test_a_service_link_that_collides_with_a_setting_is_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OVERLOCK_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("OVERLOCK_PORT", "tcp://10.0.0.1:80")
    with pytest.raises(SettingsError, match=r"OVERLOCK_PORT: .* Service named overlock: set enab"):
        load_settings()
    assert load_settings({"port": "8000"}).port == 8000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_batch_size", "0"),
        ("port", "http"),
        ("dtype", "float16"),
        ("devices", "gpu"),
        ("devices", "cuda:a"),
        ("devices", "cuda:0,cuda:0"),
        ("classify_model", "resnet50"),
        ("default_timeout_seconds", "-1"),
        ("max_timeout_seconds", "601"),
        ("cors_origins", "https://a.example/"),
        ("cors_origins", "a.example"),
        ("cors_origins", "https://a.example, https://b.example"),
        ("root_path", "overlock"),
        ("root_path", "/overlock/"),
        ("keep_alive_seconds", "0"),
        ("model_name", ""),
        ("model_name", "a/b"),
        ("model_name", "\u00fc"),
        ("model_name", "a" * 65),
        ("model_control", "yes"),
        ("drain_delay_seconds", "-1"),
    ],
)
def test_a_value_out_of_range_is_refused_by_the_variables_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{PREFIX}{name.upper()}.*{value}"):
        load_settings({name: value})


def test_the_default_timeout_is_one_that_a_request_may_have() -> None:
    with pytest.raises(SettingsError, match=r"DEFAULT_TIMEOUT_SECONDS is 30, more than .*, 20"):
        load_settings({"max_timeout_seconds": "20"})
    given = {"max_timeout_seconds": "20", "default_timeout_seconds": "20"}
    assert load_settings(given).default_timeout_seconds == 20.0


def test_a_network_of_the_paper_needs_weights() -> None:
    with pytest.raises(SettingsError, match="OVERLOCK_CLASSIFY_WEIGHTS is needed"):
        load_settings({"classify_model": "overlock_t"})


def test_the_demo_brings_its_own_weights() -> None:
    specs = specs_of(load_settings())
    assert [(spec.task, spec.architecture, spec.weights) for spec in specs] == [
        (Task.CLASSIFY, "demo", "demo"),
        (Task.SEGMENT, "demo", "demo"),
    ]


def test_detection_is_off_unless_asked_for() -> None:
    assert load_settings().model_of(Task.DETECT) is None


@pytest.mark.parametrize(
    ("setting", "model"),
    [("segment", "upernet_overlock_t"), ("detect", "cascade_mask_rcnn_overlock_b")],
)
def test_every_task_of_the_paper_needs_weights(setting: str, model: str) -> None:
    with pytest.raises(SettingsError, match=f"OVERLOCK_{setting.upper()}_WEIGHTS is needed"):
        load_settings({f"{setting}_model": model})


def test_a_model_of_another_task_is_refused_with_those_that_fit() -> None:
    with pytest.raises(SettingsError, match="no model 'overlock_t' can segment; there are upernet"):
        load_settings({"segment_model": "overlock_t", "segment_weights": "random"})


def test_serving_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match="all off"):
        load_settings({"classify_model": "off", "segment_model": "off"})


def test_another_process_reads_equal_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(
        {"classify_model": "overlock_t", "classify_weights": "x.pth", "classify_labels": "l.txt"}
    )
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings
    assert settings.classify_labels == Path("l.txt")


def test_a_user_without_a_home_needs_a_cache_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(SettingsError, match="OVERLOCK_CACHE_DIR is needed: Could not determine"):
        _ = load_settings().cache_folder
    assert load_settings({"cache_dir": str(tmp_path)}).cache_folder == tmp_path


def test_the_cache_lies_where_it_is_put_or_in_the_users_cache_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert load_settings({"cache_dir": str(tmp_path)}).cache_folder == tmp_path
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert load_settings().cache_folder == tmp_path / "overlock-service"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_settings().cache_folder == tmp_path / ".cache" / "overlock-service"


def test_the_only_model_gets_the_name_that_is_set(tmp_path: Path) -> None:
    (spec,) = specs_of(load_settings({"model_name": "birds", "segment_model": "off"}))
    assert (spec.name, spec.task, spec.architecture) == ("birds", Task.CLASSIFY, "demo")
    file = tmp_path / "models.toml"
    file.write_text('[a]\narchitecture = "demo"\n')
    (spec,) = specs_of(load_settings({"model_name": "birds", "models_file": str(file)}))
    assert (spec.name, spec.blame("weights")) == ("birds", f"{file}, [a] weights")


def test_one_name_for_several_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refusal:
        specs_of(load_settings({"model_name": "birds"}))
    assert str(refusal.value) == (
        "OVERLOCK_MODEL_NAME is the name of the only model, but there are several: "
        "demo (classify), demo-segment (segment); leave one."
    )
    file = tmp_path / "models.toml"
    file.write_text("".join(f'[{name}]\narchitecture = "demo"\n' for name in "ab"))
    with pytest.raises(SettingsError, match=r"several: a \(classify\), b \(classify\); leave one"):
        specs_of(load_settings({"model_name": "birds", "models_file": str(file)}))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_on_a_loopback_address_models_can_be_controlled_without_keys(host: str) -> None:
    assert load_settings({"model_control": "on", "host": host}).model_control == "on"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.example", "example"])
def test_everywhere_else_model_control_needs_keys(host: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"reaches {host} unload models: set OVERLOCK_API_KEYS"):
        load_settings({"model_control": "on", "host": host})
    keys = {"api_keys_file": str(tmp_path / "keys")}
    assert load_settings({"model_control": "on", "host": host, **keys}).host == host


def test_a_task_without_a_loaded_model_is_told_where_models_are_listed() -> None:
    settings = load_settings({"model_control": "on"})
    assert settings.how_to_serve(Task.EXPLAIN) == (
        "No model that can classify is loaded; POST /v2/repository/index lists the configured ones."
    )
