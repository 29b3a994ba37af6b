"""What rows of probe results mean."""

from __future__ import annotations

from typing import Any

import pytest

from onebox.node.probe_spec import (
    Exec,
    GrpcCheck,
    Handler,
    HttpGet,
    Probe,
    Sleep,
    TcpSocket,
    parse_handler,
    parse_probe,
)
from onebox.node.probing import Health, ProbeKind, ProbeState, advance, initial_health, interval_s
from tests.onebox.node.builders import container, pod

PROBE = Probe(handler=TcpSocket(port=1), period_s=10, failure_threshold=3)


def after(results: list[tuple[float, bool]], probe: Probe = PROBE, state: ProbeState | None = None) -> ProbeState:
    state = state or ProbeState()
    for now_s, passed in results:
        state = advance(state, probe, passed=passed, now_s=now_s)
    return state


def test_one_success_is_enough_unless_more_are_asked_for() -> None:
    assert after([(0, True)]).passed
    twice = Probe(handler=TcpSocket(port=1), success_threshold=2)
    assert not after([(0, True)], twice).passed
    assert after([(0, True), (1, True)], twice).passed
    assert not after([(0, True), (1, False), (2, True)], twice).passed


def test_failures_count_once_a_period_however_often_it_is_tried() -> None:
    many = [(moment / 50, False) for moment in range(500)]
    assert after(many).failures == 1
    assert after([*many, (10.0, False)]).failures == 2


def test_the_threshold_of_failures_is_what_kubernetes_makes_of_it() -> None:
    ready = after([(0, True)])
    assert after([(10, False), (20, False)], state=ready).passed
    unready = after([(10, False), (20, False), (30, False)], state=ready)
    assert not unready.passed
    assert unready.failed
    assert after([(40, True)], state=unready).passed


def test_a_success_in_between_begins_the_count_anew() -> None:
    assert after([(10, False), (20, False), (30, True), (40, False), (50, False)], state=after([(0, True)])).passed


@pytest.mark.parametrize(
    ("age_s", "wanted_s"), [(0.0, 0.02), (0.4, 0.02), (1.0, 0.05), (10.0, 0.5), (60.0, 3.0), (1000.0, 10.0)]
)
def test_a_starting_container_is_probed_often_at_first(age_s: float, wanted_s: float) -> None:
    assert interval_s(ProbeKind.READINESS, ProbeState(), PROBE, age_s=age_s) == pytest.approx(wanted_s)
    assert interval_s(ProbeKind.STARTUP, ProbeState(), PROBE, age_s=age_s) == pytest.approx(wanted_s)


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (ProbeKind.LIVENESS, ProbeState()),
        (ProbeKind.READINESS, ProbeState(passed=True, once_passed=True)),
        (ProbeKind.READINESS, ProbeState(passed=False, once_passed=True)),
        (ProbeKind.READINESS, ProbeState(successes=1)),
    ],
)
def test_otherwise_the_period_holds(kind: ProbeKind, state: ProbeState) -> None:
    assert interval_s(kind, state, PROBE, age_s=0.0) == 10


TCP: dict[str, Any] = {"tcpSocket": {"port": 1}}


@pytest.mark.parametrize(
    ("fields", "health"),
    [
        ({}, Health(started=True, ready=True)),
        ({"livenessProbe": TCP}, Health(started=True, ready=True)),
        ({"readinessProbe": TCP}, Health(started=True, ready=False)),
        ({"startupProbe": TCP}, Health(started=False, ready=False)),
    ],
)
def test_before_the_first_probe(fields: dict[str, Any], health: Health) -> None:
    assert initial_health(pod(container(**fields)).containers[0]) == health


@pytest.mark.parametrize(
    ("value", "handler"),
    [
        (
            {"httpGet": {"port": "http", "scheme": "HTTPS", "httpHeaders": [{"name": "A", "value": "b"}]}},
            HttpGet(port="http", tls=True, headers={"A": "b"}),
        ),
        ({"tcpSocket": {"port": 0}}, TcpSocket(port=0)),
        ({"exec": {"command": ["a", "b"]}}, Exec(command=("a", "b"))),
        ({"grpc": {"port": 9000, "service": "s"}}, GrpcCheck(port=9000, service="s")),
        ({"sleep": {"seconds": 3}}, Sleep(seconds=3)),
        ({}, None),
        ({"periodSeconds": 3}, None),
    ],
)
def test_handlers(value: dict[str, Any], handler: Handler | None) -> None:
    assert parse_handler(value) == handler


def test_probes_have_kubernetes_defaults() -> None:
    assert parse_probe(TCP) == Probe(handler=TcpSocket(port=1))
    assert parse_probe({"periodSeconds": 1}) is None
    assert parse_probe(None) is None
    timed = parse_probe(
        {**TCP, "initialDelaySeconds": 1, "periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 4}
    )
    assert timed == Probe(handler=TcpSocket(port=1), initial_delay_s=1, period_s=2, timeout_s=3, failure_threshold=4)
