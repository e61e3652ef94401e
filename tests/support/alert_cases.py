"""Faults as Prometheus would see them, and the alerts that they have to raise."""

from __future__ import annotations

from dataclasses import dataclass

TARGET = 'job="overlock", instance="pod:8000"'


@dataclass(frozen=True)
class Case:
    """Series over some minutes, and the alerts that they raise.

    Attributes:
        what: the situation.
        series: with their values, as promtool's tests write them.
        minute: when it is looked at.
        fires: the alerts, and no others.
    """

    what: str
    series: dict[str, str]
    minute: int
    fires: frozenset[str] = frozenset()


def _requests(status: str, route: str = "/v1/classify") -> str:
    return f'overlock_requests_total{{{TARGET}, route="{route}", status="{status}"}}'


def _well(**others: str) -> dict[str, str]:
    """Return an instance that answers a hundred requests a minute, and what differs."""
    return {
        f"up{{{TARGET}}}": "1x120",
        f'overlock_model_info{{{TARGET}, task="classify", model="demo"}}': "1x120",
        _requests("200"): "0+100x120",
        _requests("503"): "0x120",
        f"overlock_pending_work_seconds{{{TARGET}}}": "0.4x120",
        f"overlock_engine_restarts_total{{{TARGET}}}": "0x120",
        f"overlock_reload_failures_total{{{TARGET}}}": "0x120",
        f'overlock_batch_faults_total{{{TARGET}, fault="device-lost"}}': "0x120",
        f'overlock_out_of_memory_total{{{TARGET}, action="refused"}}': "0x120",
        f'overlock_outputs_not_finite_total{{{TARGET}, task="classify"}}': "0x120",
    } | others


def _durations(slow_each_minute: int) -> dict[str, str]:
    name = f'overlock_request_duration_seconds_bucket{{{TARGET}, route="/v1/classify", le='
    fast = 100 - slow_each_minute
    return {
        f'{name}"1.0"}}': f"0+{fast}x120",
        f'{name}"10.0"}}': f"0+{fast}x120",
        f'{name}"30.0"}}': "0+100x120",
        f'{name}"+Inf"}}': "0+100x120",
    }


def _lags(late_each_minute: int) -> dict[str, str]:
    name = f'overlock_event_loop_lag_seconds_bucket{{{TARGET}, process="http", le='
    return {
        f'{name}"0.25"}}': f"0+{60 - late_each_minute}x120",
        f'{name}"1.0"}}': "0+60x120",
        f'{name}"+Inf"}}': "0+60x120",
    }


def _once(name: str, labels: str = "", count: int = 1) -> dict[str, str]:
    """Return a counter that counts at the 20th minute."""
    return {f"{name}{{{TARGET}{labels}}}": f"0x19 {count}x100"}


CASES = [
    Case("a calm hour", _well(), 60),
    Case("nothing is scraped", {}, 10, frozenset({"OverlockAbsent"})),
    Case("nothing is scraped, for a moment", {}, 4),
    Case(
        "an instance of two is gone",
        _well() | {'up{job="overlock", instance="other:8000"}': "0x120"},
        10,
        frozenset({"OverlockInstanceDown"}),
    ),
    Case(
        "the only instance is gone",
        {f"up{{{TARGET}}}": "0x120"},
        10,
        frozenset({"OverlockInstanceDown", "OverlockAbsent"}),
    ),
    Case("another job is gone", _well() | {'up{job="other", instance="a"}': "0x120"}, 30),
    Case("an instance starts", {f"up{{{TARGET}}}": "1x120"}, 19),
    Case("no engine", {f"up{{{TARGET}}}": "1x120"}, 25, frozenset({"OverlockNoEngine"})),
    Case(
        "five of a hundred requests fail",
        _well() | {_requests("503"): "0+5x120"},
        20,
        frozenset({"OverlockErrors"}),
    ),
    *(
        Case(
            f"five of a hundred calls fail at {route}",
            {
                _requests(status, route): count
                for status, count in (("200", "0+100x120"), ("500", "0+5x120"))
            }
            | {name: values for name, values in _well().items() if "requests_total" not in name},
            20,
            frozenset({"OverlockErrors"}),
        )
        for route in (
            "/v2/models/{model_name}/infer",
            "/v2/models/{model_name}/versions/{version}/infer",
            "/inference.GRPCInferenceService/ModelInfer",
        )
    ),
    Case(
        "models are asked for that are not ready",
        _well() | {_requests("503", "/v2/models/{model_name}/ready"): "0+50x120"},
        20,
    ),
    Case("one of a hundred requests fails", _well() | {_requests("500"): "0+1x120"}, 20),
    Case("requests fail for a moment", _well() | {_requests("500"): "0+50x1 100x120"}, 4),
    Case("probes fail", _well() | {_requests("503", "/readyz"): "0+50x120"}, 20),
    Case("callers make mistakes", _well() | {_requests("422"): "0+50x120"}, 20),
    Case(
        "a tenth of the requests is refused",
        _well() | {_requests("429"): "0+11x120"},
        20,
        frozenset({"OverlockShedding"}),
    ),
    Case("few requests are refused", _well() | {_requests("429"): "0+2x120"}, 20),
    Case(
        "work piles up",
        _well() | {f"overlock_pending_work_seconds{{{TARGET}}}": "3x120"},
        20,
        frozenset({"OverlockPendingWork"}),
    ),
    Case(
        "work piles up for a moment",
        _well() | {f"overlock_pending_work_seconds{{{TARGET}}}": "0.4x9 5x2 0.4x100"},
        20,
    ),
    Case("requests are slow", _well() | _durations(2), 20, frozenset({"OverlockSlow"})),
    Case("requests are fast", _well() | _durations(0), 20),
    Case("a loop is late", _well() | _lags(9), 20, frozenset({"OverlockEventLoopLag"})),
    Case("a loop is late at times", _well() | _lags(3), 20),
    Case(
        "an engine died",
        _well() | _once("overlock_engine_restarts_total"),
        25,
        frozenset({"OverlockEngineRestarted"}),
    ),
    Case("an engine died long ago", _well() | _once("overlock_engine_restarts_total"), 60),
    Case(
        "engines keep dying",
        _well() | _once("overlock_engine_restarts_total", count=5),
        25,
        frozenset({"OverlockEngineRestarted", "OverlockEngineCrashLoop"}),
    ),
    Case(
        "a reload failed",
        _well() | _once("overlock_reload_failures_total"),
        25,
        frozenset({"OverlockReloadFailed"}),
    ),
    Case(
        "a device is lost",
        _well() | _once("overlock_batch_faults_total", ', fault="device-lost"'),
        25,
        frozenset({"OverlockDeviceLost"}),
    ),
    Case(
        "an image is poison",
        _well() | _once("overlock_batch_faults_total", ', fault="request"'),
        25,
    ),
    Case(
        "an image does not fit",
        _well() | _once("overlock_out_of_memory_total", ', action="refused"'),
        25,
        frozenset({"OverlockOutOfMemory"}),
    ),
    Case(
        "a batch is split",
        _well() | _once("overlock_out_of_memory_total", ', action="split"'),
        25,
    ),
    Case(
        "an output is not finite",
        _well() | _once("overlock_outputs_not_finite_total", ', task="classify"'),
        25,
        frozenset({"OverlockOutputsNotFinite"}),
    ),
]
