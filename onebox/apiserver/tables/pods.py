"""The line that kubectl prints for a pod; its STATUS is the one word that people look for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from controller.base.json import JsonView
from onebox.apiserver.resources.types import Column
from onebox.apiserver.tables.durations import age

POD_COLUMNS = (
    Column(name="Ready", description="Containers that are ready, of how many."),
    Column(name="Status", description="What the containers are doing, in a word."),
    Column(name="Restarts", description="How often containers were restarted, and when last."),
    Column(name="Age"),
    Column(name="IP", priority=1),
    Column(name="Node", priority=1),
    Column(name="Nominated Node", priority=1),
    Column(name="Readiness Gates", priority=1),
)
_NONE = "<none>"


def pod_cells(pod: JsonView, now_s: float) -> list[Any]:
    """Cells of POD_COLUMNS."""
    spec, status, metadata = pod.get("spec") or {}, pod.get("status") or {}, pod["metadata"]
    statuses = status.get("containerStatuses") or []
    initialising = _init_word(pod)
    # Until the pod is initialised, what is restarted are its init containers.
    restarted = statuses if initialising is None else status.get("initContainerStatuses") or []
    ready = sum(bool(container.get("ready")) for container in statuses)
    return [
        f"{ready}/{len(spec.get('containers') or ())}",
        _status_word(pod, initialising),
        _restarts(restarted, now_s),
        age(metadata.get("creationTimestamp"), now_s),
        status.get("podIP") or _NONE,
        spec.get("nodeName") or _NONE,
        status.get("nominatedNodeName") or _NONE,
        _gates(spec, status),
    ]


def _status_word(pod: JsonView, initialising: str | None) -> str:
    status = pod.get("status") or {}
    word = status.get("reason") or status.get("phase") or "Unknown"
    word = initialising if initialising is not None else _container_word(status, word)
    if pod["metadata"].get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return str(word)


def _init_word(pod: JsonView) -> str | None:
    statuses = (pod.get("status") or {}).get("initContainerStatuses") or []
    total = len((pod.get("spec") or {}).get("initContainers") or ())
    for done, container in enumerate(statuses):
        state = container.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if terminated is not None and terminated.get("exitCode") == 0:
            continue
        if terminated is not None:
            return f"Init:{_terminated_word(terminated)}"
        reason = waiting.get("reason")
        return f"Init:{reason}" if reason and reason != "PodInitializing" else f"Init:{done}/{total}"
    return None


def _container_word(status: JsonView, word: str) -> str:
    running = False
    for container in reversed(status.get("containerStatuses") or []):
        state = container.get("state") or {}
        waiting, terminated = state.get("waiting") or {}, state.get("terminated")
        if waiting.get("reason"):
            word = waiting["reason"]
        elif terminated is not None:
            word = _terminated_word(terminated)
        elif container.get("ready") and state.get("running") is not None:
            running = True
    if word == "Completed" and running:
        ready = any(
            item.get("type") == "Ready" and item.get("status") == "True" for item in status.get("conditions") or ()
        )
        return "Running" if ready else "NotReady"
    return word


def _terminated_word(terminated: JsonView) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _restarts(statuses: list[JsonView], now_s: float) -> str:
    count = sum(container.get("restartCount", 0) for container in statuses)
    last = max(_last_ends(statuses), default="")
    return f"{count} ({age(last, now_s)} ago)" if count and last else str(count)


def _last_ends(statuses: list[JsonView]) -> Iterator[str]:
    for container in statuses:
        finished = ((container.get("lastState") or {}).get("terminated") or {}).get("finishedAt")
        if finished:
            yield finished


def _gates(spec: JsonView, status: JsonView) -> str:
    gates = spec.get("readinessGates") or ()
    if not gates:
        return _NONE
    true = {item.get("type") for item in status.get("conditions") or () if item.get("status") == "True"}
    return f"{sum(gate.get('conditionType') in true for gate in gates)}/{len(gates)}"
