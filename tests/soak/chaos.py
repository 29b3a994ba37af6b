"""kill -9 of one process after the other, and how long each takes to come back.

Who is killed is drawn from a seeded generator: every kind equally often, in a random order, so that a run can be repeated. A
failed request is excused only where it was in the killed process: see `Kill.excuses`.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ladle.sdk.client import ApiError
from onebox.component_template import ComponentTemplate
from onebox.components import TEMPLATE
from onebox.node.template import template_records
from onebox.processes import ProcessId, command_of
from tests.e2e.box import Box
from tests.soak.callers import REQUEST_TIMEOUT_S, v1
from tests.soak.load import Failure
from tests.soak.services import pods_of
from tests.waiting import wait_for

COMPONENTS = ("apiserver", "controller", "engine", "node", "activator", "envoy")
KINDS = (*COMPONENTS, "parent", "template", "pod")
"""`parent` is what components are forked from, `template` what servers are."""
RECOVERY_S = 5.0
"""Each is back within this time on a machine of which we have a core for ourselves; see `Kill.late`."""
GIVEN_UP_S = 60.0
"""How long a recovery is waited for, so that a slow one is told with its length."""
SEEN_S = 0.1
"""From the end of a pod's process until the gateway has read the end of all its connections to it. A guess for a busy
machine: in between, a request can still be written into a connection that nobody holds any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One kill and what became of it; times are monotonic seconds."""

    number: int
    kind: str
    what: str
    sources: frozenset[str] | None
    """Load that goes through the killed process; None for all of it."""
    killed_s: float
    gone_s: float
    recovered_s: float
    load: float
    """Processes that want to run, for each core: the kernel's average of the last minute."""

    @property
    def took_s(self) -> float:
        return self.recovered_s - self.killed_s

    @property
    def late(self) -> bool:
        """Starting a process is work: where five others want the same core, it may take five times as long."""
        return self.took_s > RECOVERY_S * max(1.0, self.load)

    def excuses(self, failure: Failure) -> bool:
        """Whether the request was in the killed process: on its way when it died; for the gateway, also until it is back."""
        if self.sources is not None and failure.source not in self.sources:
            return False
        until_s = self.recovered_s if self.kind == "envoy" else self.gone_s + SEEN_S
        return failure.sent_s < until_s and failure.ended_s > self.killed_s

    def told(self, since_s: float, excused: int) -> str:
        return (
            f"{self.number:3d} at {self.killed_s - since_s:7.2f} s {self.kind:<10} back after {self.took_s:5.2f} s, "
            f"{excused} requests died in it, load {self.load:.1f} a core: {self.what}"
        )


def draw_kinds(rng: random.Random, count: int) -> list[str]:
    """Kinds of processes to kill: all equally often, as far as `count` allows, in a random order."""
    kinds: list[str] = []
    while len(kinds) < count:
        kinds.extend(rng.sample(KINDS, len(KINDS)))
    return kinds[:count]


@dataclass(slots=True)
class Chaos:
    """Kills processes of `box` one at a time, and waits until their work is done again."""

    box: Box
    rng: random.Random
    sleepers: tuple[str, ...]
    """Services that sleep, to be woken."""
    load_of: Mapping[str, frozenset[str]]
    """Sources of load by the service that they ask; pods of these are killed."""
    woken: int = 0
    lost: list[Failure] = field(default_factory=list)
    """Requests to sleepers that were not answered: sent after a kill, and so not in the killed process."""

    def kill(self, number: int, kind: str) -> Kill:
        """Kills one process of this kind and returns when it is back; a probe that fails is an error of its own."""
        self._prepare(kind)
        victim, what, sources, back = self._victim(number, kind)
        killed_s = time.monotonic()
        victim.signal(signal.SIGKILL)
        wait_for(f"{what} is gone", lambda: not victim.alive())
        gone_s = time.monotonic()
        back()
        kill = Kill(
            number=number,
            kind=kind,
            what=what,
            sources=sources,
            killed_s=killed_s,
            gone_s=gone_s,
            recovered_s=time.monotonic(),
            load=os.getloadavg()[0] / (os.cpu_count() or 1),
        )
        if kind == "pod":
            self._replace(what.split(" ")[0])
        return kill

    def _prepare(self, kind: str) -> None:
        """One at a time: nothing of the kill before is still on its way."""
        if kind in ("engine", "node", "activator", "template"):
            sleeper = self._next_sleeper()
            wait_for(f"{sleeper} sleeps", lambda: self._sleeps(sleeper), timeout_s=90)
        wait_for("the template", lambda: self._template_ready(self._template()), timeout_s=90)

    def _sleeps(self, sleeper: str) -> bool:
        """Whether nothing runs of it, not even a pod that drains and would answer what should wake another."""
        running = [pod for pod, _ in self.box.containers() if pod.startswith(f"{sleeper}-")]
        return not running and not pods_of(self.box, sleeper)

    def _victim(self, number: int, kind: str) -> tuple[ProcessId, str, frozenset[str] | None, Callable[[], object]]:
        if kind == "pod":
            return self._pod()
        if kind == "template":
            template = self._template()
            assert template is not None
            return template, f"pid {template.pid}", frozenset(), lambda: self._template_back(template)
        process = self.box.component(TEMPLATE if kind == "parent" else kind)
        assert process is not None, f"{kind} does not run"
        backs: dict[str, Callable[[], object]] = {
            "apiserver": lambda: wait_for("the API answers", self._api_answers, timeout_s=GIVEN_UP_S),
            "controller": lambda: self._reconciles(f"probe-{number}"),
            "envoy": lambda: wait_for("the gateway answers", self._gateway_answers, timeout_s=GIVEN_UP_S),
            "parent": lambda: self._parent_back(process),
        }
        inside = frozenset(self.sleepers) if kind == "activator" else frozenset[str]()
        sources = None if kind == "envoy" else inside
        return process, f"pid {process.pid}", sources, backs.get(kind, self._wake)

    def _pod(self) -> tuple[ProcessId, str, frozenset[str], Callable[[], object]]:
        service = self.rng.choice(sorted(self.load_of))
        found = {key: process for key, process in self.box.containers().items() if key[0].startswith(f"{service}-")}
        key = self.rng.choice(sorted(found))
        what = f"{key[0]} {key[1]}, {' '.join(command_of(found[key].pid))[-60:]}"
        return found[key], what, self.load_of[service], lambda: self._pod_back(key, found[key])

    def _pod_back(self, key: tuple[str, str], before: ProcessId) -> None:
        def again() -> bool:
            return self.box.containers().get(key, before) != before and self._restarted(*key)

        wait_for(f"{key} runs again", again, timeout_s=GIVEN_UP_S)

    def _restarted(self, pod: str, container: str) -> bool:
        """Whether the pod's status tells of the crash, so that its Ready is not from before, and is Ready."""
        statuses = {item["name"]: item for item in self._status(pod).get("containerStatuses") or ()}
        return bool(statuses[container]["restartCount"]) and self._pod_ready(pod)

    def _status(self, pod: str) -> dict[str, Any]:
        return self.box.client.request("GET", f"/api/v1/namespaces/default/pods/{pod}").get("status") or {}

    def _pod_ready(self, pod: str) -> bool:
        conditions = {item["type"]: item["status"] for item in self._status(pod).get("conditions") or ()}
        return conditions.get("Ready") == "True"

    def _replace(self, pod: str) -> None:
        """Deletes a pod that crashed, so that no later crash of it meets Kubernetes' back-off of 10 s and more."""
        service = next(name for name in self.load_of if pod.startswith(f"{name}-"))
        before = len(pods_of(self.box, service))
        self.box.client.request("DELETE", f"/api/v1/namespaces/default/pods/{pod}")

        def replaced() -> bool:
            names = pods_of(self.box, service)
            return pod not in names and len(names) == before and all(self._pod_ready(name) for name in names)

        wait_for(f"{pod} is replaced", replaced, timeout_s=GIVEN_UP_S)

    def _template(self) -> ProcessId | None:
        record = template_records(self.box.home).get("tabular")
        return record.process if record and record.process.alive() else None

    def _template_ready(self, template: ProcessId | None) -> bool:
        """Whether the node has been told that its libraries are imported; until then pods start as ordinary processes."""
        lines = (self.box.home.logs / "node.log").read_text().splitlines()
        told = (json.loads(line) for line in lines if '"template ready"' in line)
        return template is not None and any(event["pid"] == template.pid for event in told)

    def _template_back(self, before: ProcessId) -> None:
        self._wake()
        wait_for("another template", lambda: self._template() not in (None, before), timeout_s=GIVEN_UP_S)
        wait_for("the template", lambda: self._template_ready(self._template()), timeout_s=GIVEN_UP_S)

    def _parent_back(self, before: ProcessId) -> None:
        def again() -> bool:
            return self.box.component(TEMPLATE) not in (None, before)

        wait_for("another parent", again, timeout_s=GIVEN_UP_S)
        asked = ComponentTemplate(self.box.home.template_socket)

        def imported() -> bool:
            asked.look()
            return asked.ready

        try:
            wait_for("it can fork", imported, timeout_s=GIVEN_UP_S)
        finally:
            asked.close()  # The supervisor, whose connection ours took the place of, makes another.

    def _api_answers(self) -> bool:
        try:
            return bool(self.box.client.list("default"))
        except (ApiError, OSError, http.client.HTTPException):
            return False

    def _gateway_answers(self) -> bool:
        try:
            return self._ask("steady")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def _reconciles(self, name: str) -> None:
        """The controller judges a new InferenceService, one of a format that nobody knows, so that nothing starts."""
        model = {"modelFormat": {"name": "of-nobody"}, "storageUri": "file:///nowhere"}
        manifest = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"predictor": {"model": model}},
        }
        self.box.client.apply(manifest)
        wait_for(f"{name} is judged", lambda: self.box.client.get(name).get("status"), timeout_s=GIVEN_UP_S)
        self.box.client.delete(name)

    def _next_sleeper(self) -> str:
        return self.sleepers[self.woken % len(self.sleepers)]

    def _wake(self) -> None:
        """Wakes a sleeper. One request has to do: what the first meets is what a user meets; the others tell for how long."""
        sleeper = self._next_sleeper()
        self.woken += 1
        wait_for(f"{sleeper} answers", lambda: self._wakes(sleeper), timeout_s=GIVEN_UP_S)

    def _wakes(self, sleeper: str) -> bool:
        sent_s = time.monotonic()
        try:
            status, body = self._ask(sleeper)
        except (OSError, http.client.HTTPException) as error:
            status, body = 0, repr(error).encode()
        if status != 200:
            why, phases = f"{status} {body[:200]!r}", ("kill", "kill")
            failure = Failure(source=sleeper, sent_s=sent_s, ended_s=time.monotonic(), why=why, phases=phases)
            self.lost.append(failure)
        return status == 200

    def _ask(self, name: str) -> tuple[int, bytes]:
        request = v1(f"http://{name}.default.localhost", name)
        port = urlsplit(self.box.gateway).port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_TIMEOUT_S)
        try:
            headers = {"Host": f"{name}.default.localhost:{port}", **request.headers}
            connection.request(request.method, request.path, request.body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
