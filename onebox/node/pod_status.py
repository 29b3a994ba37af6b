"""The status of a pod in Kubernetes' own words: container states, conditions, phase. (pure)"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.base.json import JsonObject, JsonView
from onebox.node.decide import Observed, is_finished, restarts
from onebox.node.environment import POD_IP
from onebox.node.images import host_of
from onebox.node.probing import initial_health
from onebox.node.spec import Container, Pod
from onebox.node.state import ContainerRecord, Ended, PodRecord, Stage, Waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerView:
    """One container with everything that its status is made of; one inside of another's process shares the other's entry."""

    container: Container
    entry: ContainerRecord
    seen: Observed
    init: bool

    @property
    def started(self) -> bool:
        return self.entry.running and self.seen.health.started

    @property
    def ready(self) -> bool:
        if self.init and not self.container.keeps_running:
            return self.entry.succeeded
        return self.started and self.seen.health.ready and not self.seen.stop


def container_views(pod: Pod, record: PodRecord, observed: Mapping[str, Observed]) -> tuple[ContainerView, ...]:
    """Init containers first, each list in the order of the spec."""
    views = []
    for container in pod.all_containers:
        host = host_of(pod, container) or container
        entry = record.container(host.name)
        seen = observed.get(container.name) or Observed(health=initial_health(container))
        views.append(ContainerView(container=container, entry=entry, seen=seen, init=container in pod.init_containers))
    return tuple(views)


def build_status(
    pod: Pod, record: PodRecord, observed: Mapping[str, Observed], *, previous: JsonView, now_at: str
) -> JsonObject:
    """The whole status. Conditions that `previous` has in the same state keep their transition time."""
    views = container_views(pod, record, observed)
    init = [view for view in views if view.init]
    main = [view for view in views if not view.init]
    phase = phase_of(pod, record, views)
    conditions = _conditions(phase, init, main)
    status: JsonObject = {
        "phase": phase,
        "conditions": _with_times(conditions, previous.get("conditions") or (), now_at),
        "hostIP": POD_IP,
        "hostIPs": [{"ip": POD_IP}],
        "podIP": POD_IP,
        "podIPs": [{"ip": POD_IP}],
        "startTime": record.started_at,
        "containerStatuses": [_container_status(pod, view, init) for view in main],
        "qosClass": _qos_class(pod),
    }
    if init:
        status["initContainerStatuses"] = [_container_status(pod, view, init) for view in init]
    if record.failure is not None:
        status |= {"reason": record.failure.reason, "message": record.failure.message}
    return status


def phase_of(pod: Pod, record: PodRecord, views: Iterable[ContainerView]) -> str:
    """Kubelet's getPhase: what the containers together mean."""
    views = tuple(views)
    if record.failure is not None:
        return "Failed"
    if any(view.init and not _passed(view) for view in views):
        return "Failed" if is_finished(pod, record) else "Pending"
    entries = [view.entry for view in views if not view.init]
    if any(entry.stage in (Stage.WAITING, Stage.STARTING) for entry in entries):
        return "Pending"
    if is_finished(pod, record):
        return "Succeeded" if all(entry.succeeded for entry in entries) else "Failed"
    return "Running"


def _passed(view: ContainerView) -> bool:
    return view.started if view.container.keeps_running else view.entry.succeeded


def _conditions(phase: str, init: list[ContainerView], main: list[ContainerView]) -> list[JsonObject]:
    incomplete = [view.container.name for view in init if not _passed(view)]
    unready = [view.container.name for view in (*_sidecars(init), *main) if not view.ready]
    initialized = _condition("Initialized", incomplete, "ContainersNotInitialized", "incomplete")
    ready = _condition("Ready", unready, "ContainersNotReady", "unready")
    if phase in ("Succeeded", "Failed"):
        over = {"status": "False", "reason": "PodCompleted" if phase == "Succeeded" else "PodFailed"}
        ready = {"type": "Ready", **over}
        if phase == "Succeeded":
            initialized = {"type": "Initialized", "status": "True", "reason": "PodCompleted"}
    return [
        {"type": "PodReadyToStartContainers", "status": "True"},
        initialized,
        ready,
        {**ready, "type": "ContainersReady"},
        {"type": "PodScheduled", "status": "True"},
    ]


def _sidecars(init: list[ContainerView]) -> list[ContainerView]:
    return [view for view in init if view.container.keeps_running]


def _condition(type_: str, missing: list[str], reason: str, word: str) -> JsonObject:
    if not missing:
        return {"type": type_, "status": "True"}
    message = f"containers with {word} status: [{' '.join(missing)}]"
    return {"type": type_, "status": "False", "reason": reason, "message": message}


def _with_times(conditions: list[JsonObject], previous: Iterable[JsonView], now_at: str) -> list[JsonObject]:
    before = {condition["type"]: condition for condition in previous}
    timed = []
    for condition in conditions:
        known = before.get(condition["type"], {})
        same = known.get("status") == condition["status"]
        since = known.get("lastTransitionTime") if same else None
        timed.append({**condition, "lastProbeTime": None, "lastTransitionTime": since or now_at})
    return timed


def _container_status(pod: Pod, view: ContainerView, init: list[ContainerView]) -> JsonObject:
    entry = view.entry
    last = entry.ended if _waits_for_restart(pod, view) else entry.previous
    status: JsonObject = {
        "name": view.container.name,
        "state": _state(pod, view, init),
        "lastState": {"terminated": _terminated(last)} if last else {},
        "ready": view.ready,
        "restartCount": entry.restarts,
        "image": view.container.image,
        "imageID": "",
        "started": view.started,
    }
    if entry.launch:
        status["containerID"] = f"process://{entry.launch}"
    return status


def _waits_for_restart(pod: Pod, view: ContainerView) -> bool:
    """Whether a run that just ended counts as the last state of a container that waits, as kubelet shows it."""
    entry = view.entry
    if entry.stage is not Stage.ENDED or pod.deleting or not restarts(pod, view.container, entry):
        return False
    return entry.waiting is not None or entry.backoff_s > 0


def _state(pod: Pod, view: ContainerView, init: list[ContainerView]) -> JsonObject:
    entry = view.entry
    if entry.running:
        return {"running": {"startedAt": entry.started_at}}
    if _waits_for_restart(pod, view):
        return {"waiting": _waiting(entry.waiting or _crash_loop(pod, view))}
    if entry.ended is not None:
        return {"terminated": _terminated(entry.ended)}
    if entry.waiting is not None:
        return {"waiting": _waiting(entry.waiting)}
    return {"waiting": {"reason": "PodInitializing" if init else "ContainerCreating"}}


def _waiting(waiting: Waiting) -> JsonObject:
    return {"reason": waiting.reason, **({"message": waiting.message} if waiting.message else {})}


def _crash_loop(pod: Pod, view: ContainerView) -> Waiting:
    place = f"container={view.container.name} pod={pod.name}_{pod.namespace}({pod.uid})"
    message = f"back-off {_duration(view.entry.backoff_s)} restarting failed {place}"
    return Waiting(reason="CrashLoopBackOff", message=message)


def _duration(seconds: float) -> str:
    """As Go prints it: `10s`, `1m20s`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _terminated(ended: Ended) -> JsonObject:
    state: JsonObject = {
        "exitCode": ended.exit_code,
        "reason": ended.reason,
        "startedAt": ended.started_at,
        "finishedAt": ended.finished_at,
    }
    if ended.message:
        state["message"] = ended.message
    if ended.launch:
        state["containerID"] = f"process://{ended.launch}"
    return state


def _qos_class(pod: Pod) -> str:
    """Kubernetes' rule: Guaranteed where every container limits CPU and memory to what it requests."""
    containers = pod.all_containers
    if not any(container.limits or container.requests for container in containers):
        return "BestEffort"
    for container in containers:
        if not {"cpu", "memory"} <= container.limits.keys():
            return "Burstable"
        if any(
            container.requests.get(name, container.limits[name]) != container.limits[name] for name in ("cpu", "memory")
        ):
            return "Burstable"
    return "Guaranteed"


def write_delay_s(old: JsonView, new: JsonView) -> float | None:
    """How long a changed status may wait for further changes before it is written; None where it did not change.

    Whether a pod can be sent requests, and whether it failed, is news that others wait for. That an init container gave
    way to the next container is not, and mostly the pod is ready a moment later.
    """
    old, new = _without_nulls({name: old.get(name) for name in new}), _without_nulls(new)
    if old == new:
        return None
    urgent = not old.get("containerStatuses") or any(_news(old, new, part) for part in (_phase, _readiness, _troubles))
    return 0.0 if urgent else QUIET_DELAY_S


def _without_nulls(value: Any) -> Any:
    """Kubernetes takes a null for a field that is not there, and may store it as such."""
    if isinstance(value, Mapping):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


QUIET_DELAY_S = 0.3
"""Long enough for a small model to load meanwhile, short enough for a person who watches."""


def _news(old: JsonView, new: JsonView, part: Callable[[JsonView], object]) -> bool:
    return part(old) != part(new)


def _phase(status: JsonView) -> object:
    phase = status.get("phase")
    # From Pending to Running nothing follows for anybody until the containers are ready.
    return phase if phase in ("Succeeded", "Failed") else ""


def _readiness(status: JsonView) -> object:
    return [condition["status"] for condition in status.get("conditions") or () if condition["type"] == "Ready"]


def _troubles(status: JsonView) -> object:
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    reasons = [(item["state"].get("waiting") or {}).get("reason") for item in containers]
    failures = [item["state"]["terminated"]["exitCode"] for item in containers if "terminated" in item["state"]]
    starting = ("PodInitializing", "ContainerCreating")
    return (
        [reason for reason in reasons if reason and reason not in starting],
        [code for code in failures if code],
        [item["restartCount"] for item in containers],
    )
