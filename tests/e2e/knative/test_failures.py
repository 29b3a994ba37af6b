"""F9, F12, F21: containers that end, probes that fail, and pods that go away under a request."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.knative.asking import Answer, ask
from tests.e2e.knative.serving import (
    Manifest,
    Serving,
    command,
    conditions,
    configuration,
    container,
    route,
    service,
    template,
)
from tests.e2e.servers.failing import EXIT_CODE, REASON
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long]

READY_DELAY_S = 3
"""Knative waits ten seconds; three tell a probe that is obeyed from one that is not."""
PATIENCE_S = 5
"""Of Knative's client, after which a request counts as timed out."""
PROBES = {
    "http": {"httpGet": {"path": "/healthz"}},
    "tcp": {"tcpSocket": {}},
    "exec": {"exec": {"command": command("readiness", "probe")}},
}
PERIODS_S = (0, 1)


def _probed(name: str, kind: str, period_s: int, delay_s: int) -> Manifest:
    # What listens is ready for a TCP probe; the others ask.
    delay = {"LISTEN_DELAY" if kind == "tcp" else "READY_DELAY": str(delay_s)}
    runs = container("readiness", env=delay, readinessProbe={**PROBES[kind], "periodSeconds": period_s})
    return service(name, template(runs))


def _in_state(serving: Serving, kind: str, name: str, condition: str, status: str) -> Manifest:
    def look() -> Manifest | None:
        found = conditions(serving.find(kind, name) or {}).get(condition, {})  # It may not have been made yet.
        return found if found.get("status") == status else None

    return wait_for(f"{condition} of {kind} {name} is {status}", look, timeout_s=90)


def test_a_container_that_ends_fails_all_that_needs_it(serving: Serving) -> None:
    serving.apply(service("crash", template(container("failing"))))
    healthy = _in_state(serving, "revision", "crash-00001", "ContainerHealthy", "False")
    assert healthy["reason"] == f"ExitCode{EXIT_CODE}"
    assert REASON in healthy["message"]
    assert _in_state(serving, "configuration", "crash", "Ready", "False")["reason"] == "RevisionFailed"
    assert _in_state(serving, "service", "crash", "ConfigurationsReady", "False")["reason"] == "RevisionFailed"
    assert _in_state(serving, "service", "crash", "Ready", "False")["message"]
    assert _in_state(serving, "route", "crash", "Ready", "False")["reason"] == "RevisionMissing"
    serving.delete("service", "crash")


@pytest.mark.parametrize("delay_s", [READY_DELAY_S, pytest.param(10, marks=pytest.mark.long)])
def test_once_ready_the_first_request_is_answered(serving: Serving, delay_s: int) -> None:
    cases = {f"ready-{kind}-{period}-{delay_s}": (kind, period) for kind in PROBES for period in PERIODS_S}
    for name, (kind, period_s) in cases.items():
        serving.apply(_probed(name, kind, period_s, delay_s))

    def first(name: str) -> Answer:
        return ask(serving.ready("service", name)["status"]["url"])

    with ThreadPoolExecutor(len(cases)) as threads:
        firsts = dict(zip(cases, threads.map(first, cases), strict=True))
    assert {name: answer.status for name, answer in firsts.items()} == dict.fromkeys(cases, 200)
    for name in cases:
        serving.delete("service", name)


@pytest.mark.parametrize("period_s", [1, pytest.param(0, marks=pytest.mark.long)])
def test_a_server_that_turns_unready_is_left_alone(serving: Serving, period_s: int) -> None:
    """Period 0 takes the kubelet's default of ten seconds, three times, to notice."""
    names = {f"failing-{kind}-{period_s}": kind for kind in ("http", "exec")}
    for name, kind in names.items():
        serving.apply(_probed(name, kind, period_s, 0))
    for name in names:
        url = serving.ready("service", name)["status"]["url"]
        assert ask(url, "/start-failing", method="POST").status == 200
        wait_for("no more answers", lambda: _gives_up(url), timeout_s=90)  # noqa: B023  # Called here and now.
        serving.delete("service", name)


def _gives_up(url: str) -> bool:
    """Whether a request times out or is a 503; until then it has to be answered."""
    try:
        status = ask(url, timeout_s=PATIENCE_S).status
    except TimeoutError:
        return True
    assert status in (200, 503)
    return status == 503


def test_a_request_outlives_its_configuration(serving: Serving) -> None:
    _destroy_in_flight(serving, "inflight", timeout_s=20, sleep_s=6)


@pytest.mark.long
def test_a_long_request_outlives_its_configuration(serving: Serving) -> None:
    _destroy_in_flight(serving, "inflight-long", timeout_s=45, sleep_s=35)


def _destroy_in_flight(serving: Serving, name: str, *, timeout_s: int, sleep_s: int) -> None:
    serving.apply(configuration(name, template(container("timeout"), timeoutSeconds=timeout_s)))
    serving.apply(route(name, {"configurationName": name, "percent": 100}))
    url = serving.ready("route", name)["status"]["url"]
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(ask, url, f"/?initialTimeout={sleep_s * 1000}&timeout=100")
        wait_for("the request is being answered", lambda: ask(url, "/answering").body == "1")
        serving.delete("configuration", name)
        assert slow.result() == Answer(200, "Slept for 100 milliseconds")
    wait_for("its pod is gone", lambda: not _processes(serving, name), timeout_s=60)
    serving.delete("route", name)


def test_an_idle_pod_goes_long_before_its_timeout(serving: Serving) -> None:
    url = serving.run(service("timely", template(container("text"), timeoutSeconds=300)))
    assert ask(url).status == 200
    serving.delete("service", "timely")
    wait_for("its pod is gone", lambda: not _processes(serving, "timely"), timeout_s=60)


def _processes(serving: Serving, name: str) -> list[str]:
    return [pod for pod, _ in serving.box.containers() if pod.startswith(f"{name}-00001")]
