"""What the node does next for one pod: start, restart, drain, terminate, kill, or let go. (pure)

The decision looks at what is wanted (the pod), what was done (the record) and what was seen (probes, and how far a stop
has come), never at what happened when: asked again after a crash it gives the right answer for what is left to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

from onebox.node.images import Role, embeds_proxy, role_of
from onebox.node.probing import Health
from onebox.node.spec import Container, Pod, RestartPolicy
from onebox.node.state import ContainerRecord, PodRecord, Stage, Waiting

LATE_TERM_GRACE_S = 2.0
"""A container whose preStop used up the whole grace period still gets this long after SIGTERM; kubelet's number."""
VANISHED_GRACE_S = 2.0
"""Grace of a pod whose object is gone without a deletion (deleted by force, or while the node was away)."""


class StopStage(IntEnum):
    """How far the stop of a running container has come."""

    NONE = 0
    DRAINING = 1
    DRAINED = 2
    TERMINATED = 3
    KILLED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What is known about the present run of a container, in this process's memory only."""

    health: Health = field(default_factory=Health)
    stop: StopStage = StopStage.NONE
    deadline_s: float = float("inf")
    """When a stop that has begun ends in a kill."""


@dataclass(frozen=True, slots=True)
class Launch:
    container: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Run the preStop hook, or ask the queue-proxy to drain."""

    container: str
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Terminate:
    """SIGTERM."""

    container: str
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL."""

    container: str


@dataclass(frozen=True, slots=True)
class BeginStop:
    """Write down until when the pod has time to end."""

    deadline_s: float


@dataclass(frozen=True, slots=True)
class Fail:
    """The pod is over, by the node's own decision."""

    failure: Waiting


@dataclass(frozen=True, slots=True)
class LetGo:
    """Nothing of the pod runs any more: delete its object and its files."""


Action: TypeAlias = Launch | Drain | Terminate | Kill | BeginStop | Fail | LetGo


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, and when to ask again though nothing has happened (None: never)."""

    actions: tuple[Action, ...] = ()
    wake_s: float | None = None


Step: TypeAlias = Action | float
"""An action, or the time from which on there may be one."""


def decide_pod(pod: Pod, record: PodRecord, observed: Mapping[str, Observed], now_s: float) -> Decision:
    """The next actions for a pod."""
    steps = tuple(_steps(pod, record, observed, now_s))
    wakes = [step for step in steps if isinstance(step, float)]
    actions = tuple(step for step in steps if not isinstance(step, float))
    return Decision(actions, min(wakes, default=None))


def _steps(pod: Pod, record: PodRecord, observed: Mapping[str, Observed], now_s: float) -> Iterator[Step]:
    if pod.deletion_grace_s is not None:
        deadline_s = now_s + pod.deletion_grace_s
        if record.stop_deadline_s is None or deadline_s < record.stop_deadline_s:
            yield BeginStop(deadline_s)
        elif any(_occupied(record.container(container.name)) for container in pod.all_containers):
            yield from _stop_all(pod, record, observed, now_s)
        else:
            yield LetGo()
    elif record.failure is not None:
        yield from _stop_all(pod, record, observed, now_s)
    elif pod.active_deadline_s is not None and not is_finished(pod, record):
        yield from _within_deadline(pod, record, observed, now_s)
    else:
        yield from _run(pod, record, observed, now_s)


def _occupied(record: ContainerRecord) -> bool:
    return record.stage in (Stage.STARTING, Stage.RUNNING)


def _within_deadline(pod: Pod, record: PodRecord, observed: Mapping[str, Observed], now_s: float) -> Iterator[Step]:
    assert pod.active_deadline_s is not None
    deadline_s = record.started_s + pod.active_deadline_s
    if now_s >= deadline_s:
        message = "Pod was active on the node longer than the specified deadline"
        yield Fail(Waiting(reason="DeadlineExceeded", message=message))
    else:
        yield deadline_s
        yield from _run(pod, record, observed, now_s)


def _run(pod: Pod, record: PodRecord, observed: Mapping[str, Observed], now_s: float) -> Iterator[Step]:
    sidecars = [container for container in pod.init_containers if container.keeps_running]
    if is_finished(pod, record):
        yield from _stop_each(pod, sidecars, record, observed, now_s)
        return
    for container in pod.init_containers:
        entry = record.container(container.name)
        if entry.succeeded and not container.keeps_running:
            continue
        seen = observed.get(container.name, Observed())
        yield from _keep_going(pod, container, entry, seen, now_s)
        if not (container.keeps_running and entry.running and seen.health.started):
            return
    for container in pod.containers:
        if role_of(pod, container, {}) is not Role.EMBEDDED:
            seen = observed.get(container.name, Observed())
            yield from _keep_going(pod, container, record.container(container.name), seen, now_s)


def _keep_going(pod: Pod, container: Container, entry: ContainerRecord, seen: Observed, now_s: float) -> Iterator[Step]:
    """Starts what is to run and does not; ends a run whose liveness or startup probe failed."""
    match entry.stage:
        case Stage.RUNNING if seen.health.failed or seen.stop:
            yield from _stop(pod, container, seen, now_s, float("inf"))
        case Stage.ENDED if not restarts(pod, container, entry):
            return
        case Stage.WAITING | Stage.ENDED:
            yield Launch(container.name) if now_s >= entry.retry_s else entry.retry_s


def restarts(pod: Pod, container: Container, entry: ContainerRecord) -> bool:
    """Whether an ended container is started again."""
    if container.keeps_running:
        return True
    if entry.succeeded and container in pod.init_containers:
        return False
    match pod.restart_policy:
        case RestartPolicy.ALWAYS:
            return True
        case RestartPolicy.ON_FAILURE:
            return not entry.succeeded
        case RestartPolicy.NEVER:
            # An init container whose end nobody saw has not failed for all that is known; it may run twice.
            return container in pod.init_containers and entry.ended is not None and entry.ended.lost


def is_finished(pod: Pod, record: PodRecord) -> bool:
    """Whether no container of the pod will ever run again."""
    for container in pod.init_containers:
        entry = record.container(container.name)
        if entry.stage is Stage.ENDED and not entry.succeeded and not restarts(pod, container, entry):
            return True
    entries = [(container, record.container(container.name)) for container in _own_processes(pod)]
    return all(entry.stage is Stage.ENDED and not restarts(pod, container, entry) for container, entry in entries)


def _own_processes(pod: Pod) -> list[Container]:
    return [container for container in pod.containers if role_of(pod, container, {}) is not Role.EMBEDDED]


def _stop_all(pod: Pod, record: PodRecord, observed: Mapping[str, Observed], now_s: float) -> Iterator[Step]:
    """The queue-proxy first, so that it finishes what it accepted; then the others; sidecars last, in reverse order.

    Once the time is up the order no longer matters.
    """
    running = [container for container in pod.all_containers if record.container(container.name).running]
    sidecars = [container for container in reversed(running) if container.keeps_running]
    proxies = [container for container in running if role_of(pod, container, {}) is Role.PROXY]
    others = [container for container in running if not container.keeps_running and container not in proxies]
    if record.stop_deadline_s is not None and now_s >= record.stop_deadline_s:
        yield from _stop_each(pod, running, record, observed, now_s)
    else:
        yield from _stop_each(pod, proxies or others or sidecars[:1], record, observed, now_s)


def _stop_each(
    pod: Pod, containers: Iterable[Container], record: PodRecord, observed: Mapping[str, Observed], now_s: float
) -> Iterator[Step]:
    limit_s = float("inf") if record.stop_deadline_s is None else record.stop_deadline_s
    for container in containers:
        if record.container(container.name).running:
            yield from _stop(pod, container, observed.get(container.name, Observed()), now_s, limit_s)


def _stop(pod: Pod, container: Container, seen: Observed, now_s: float, limit_s: float) -> Iterator[Step]:
    if seen.stop is StopStage.TERMINATED:
        limit_s += LATE_TERM_GRACE_S  # Only a late SIGTERM set a deadline of its own beyond the limit.
    deadline_s = min(limit_s, seen.deadline_s)
    if deadline_s == float("inf"):
        deadline_s = now_s + _grace_s(pod, container, seen)
    late = now_s >= deadline_s
    match seen.stop:
        case StopStage.NONE if late:
            yield Kill(container.name)
        case StopStage.NONE if wants_drain(pod, container):
            yield Drain(container.name, deadline_s)
        case StopStage.NONE | StopStage.DRAINED:
            yield Terminate(container.name, max(deadline_s, now_s + LATE_TERM_GRACE_S) if late else deadline_s)
        case StopStage.DRAINING if late:
            yield Terminate(container.name, now_s + LATE_TERM_GRACE_S)
        case StopStage.TERMINATED if late:
            yield Kill(container.name)
        case StopStage.DRAINING | StopStage.TERMINATED:
            yield deadline_s
        case StopStage.KILLED:
            pass


def _grace_s(pod: Pod, container: Container, seen: Observed) -> float:
    probes = {"liveness": container.liveness, "startup": container.startup}
    probe = probes.get(seen.health.failed or "")
    return pod.grace_s if probe is None or probe.grace_s is None else probe.grace_s


def wants_drain(pod: Pod, container: Container) -> bool:
    """Whether something is to be done before SIGTERM.

    The drain of a queue-proxy is for the end of the pod only: a runtime that is restarted because it no longer answers
    would not answer that request either. Knative's preStop hook, which asks for the same drain, is not run twice.
    """
    if pod.has_queue_proxy:
        drains = embeds_proxy(pod, container) or role_of(pod, container, {}) is Role.PROXY
        return drains and pod.deleting
    return container.pre_stop is not None
