"""kill -9 of any one process, and of all at once, while requests come: nothing acknowledged is lost, nothing runs twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ladle.sdk.client import ApiError
from onebox.node.template import template_records
from onebox.processes import command_of, processes_of
from onebox.supervisor import supervisor_pid
from tests.e2e.box import Box, start_box, stop_box
from tests.e2e.manifests import INSTANCES, isvc
from tests.e2e.traffic import traffic
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

COMPONENTS = ("template", "controller", "engine", "node", "activator", "apiserver", "envoy")
DATA_PLANE = {"envoy"}
"""A request inside Envoy dies with it; every other component can go without a request noticing."""


@pytest.fixture
def crashing(tmp_path_factory: pytest.TempPathFactory, iris: Path) -> Iterator[Box]:
    box = start_box(tmp_path_factory.mktemp("crash") / "home")
    try:
        box.client.apply(isvc("steady", iris.as_uri()))
        box.client.wait_ready("steady", timeout_s=60)
        yield box
    finally:
        stop_box(box)


def stored(box: Box, name: str) -> bool:
    return box.client.get(name)["metadata"]["name"] == name


def running_twice(box: Box) -> list[str]:
    """Processes that are nobody's: no component, no template and no container that a record knows."""
    known = {process.pid for name in COMPONENTS if (process := box.component(name))}
    known |= {record.process.pid for record in template_records(box.home).values()}
    known |= {process.pid for process in box.containers().values()} | {supervisor_pid(box.home) or 0}
    leaders = [process.pid for process, _ in processes_of(box.home.root) if _leads_its_session(process.pid)]
    return [" ".join(command_of(pid)) for pid in leaders if pid not in known]


def _leads_its_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def converges(box: Box, name: str, iris: Path) -> None:
    """The control plane works again: a new service becomes ready and answers."""
    wait_for("the API answers", lambda: _answers(box), timeout_s=30)
    box.client.apply(isvc(name, iris.as_uri()))
    box.client.wait_ready(name, timeout_s=60)
    wait_for(f"{name} answers", lambda: predicts(box, name), timeout_s=60)


def predicts(box: Box, name: str) -> bool:
    """Whether the model answers now; what a server that was killed has not answered is lost, and says so."""
    try:
        return box.client.predict(name, INSTANCES) == {"predictions": [1, 1]}
    except ApiError:
        return False


def _answers(box: Box) -> bool:
    try:
        return bool(box.client.list("default"))
    except Exception:  # Whatever a dying server does is not an answer yet.
        return False


def test_any_one_component_may_die_under_requests(crashing: Box, iris: Path) -> None:
    url = crashing.client.get("steady")["status"]["url"]
    for component in COMPONENTS:
        crashing.client.apply(isvc(f"before-{component}", iris.as_uri(), minReplicas=0))
        victim = crashing.component(component)
        assert victim is not None
        with traffic(url, "steady", connections=2) as load:
            victim.signal(signal.SIGKILL)
            wait_for(f"{component} is back", lambda: crashing.component(component) not in (None, victim), timeout_s=20)  # noqa: B023
            converges(crashing, f"after-{component}", iris)
        assert not load.failures or component in DATA_PLANE, (component, load.outcomes)
        assert stored(crashing, f"before-{component}")
        wait_for("nothing runs twice", lambda: not running_twice(crashing))


def test_the_supervisor_may_die_and_up_takes_over(crashing: Box, iris: Path) -> None:
    url = crashing.client.get("steady")["status"]["url"]
    before = {name: crashing.component(name) for name in COMPONENTS}
    pid = supervisor_pid(crashing.home)
    assert pid
    with traffic(url, "steady", connections=2) as load:
        os.kill(pid, signal.SIGKILL)
        wait_for("the supervisor is gone", lambda: supervisor_pid(crashing.home) is None)
        crashing.ladle("up", "--detach")
        converges(crashing, "after-supervisor", iris)
    assert not load.failures
    assert {name: crashing.component(name) for name in COMPONENTS} == before
    wait_for("nothing runs twice", lambda: not running_twice(crashing))


def test_a_killed_pod_comes_back(crashing: Box) -> None:
    pod = next(process for (_, name), process in crashing.containers().items() if name == "kserve-container")
    pod.signal(signal.SIGKILL)
    wait_for("the pod is gone", lambda: not pod.alive())
    wait_for("the model answers again", lambda: predicts(crashing, "steady"), timeout_s=60)
    wait_for("nothing runs twice", lambda: not running_twice(crashing))


def test_all_may_die_at_once_and_up_brings_all_back(crashing: Box, iris: Path) -> None:
    for number in range(3):
        crashing.client.apply(isvc(f"acknowledged-{number}", iris.as_uri(), minReplicas=0))
    for process, _ in processes_of(crashing.home.root):
        process.signal(signal.SIGKILL)
    wait_for("nothing runs", lambda: not crashing.processes())
    crashing.ladle("up", "--detach")
    for number in range(3):
        assert stored(crashing, f"acknowledged-{number}")
    wait_for("the model answers again", lambda: predicts(crashing, "steady"), timeout_s=30)
    converges(crashing, "after-all", iris)
    wait_for("nothing runs twice", lambda: not running_twice(crashing))
