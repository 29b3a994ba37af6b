"""One pod's worker: asks decide_pod what to do, does it, writes it down, and tells the API server.

Everything about a pod happens in its worker, one step after the other; other tasks (ends of processes, probes, drains) only
note what they saw and wake it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import uuid
from collections.abc import Coroutine, Mapping
from dataclasses import replace

from controller.base.clock import rfc3339
from controller.base.errors import TransientError, UserError
from controller.base.logging import get_logger
from controller.kube.resources import PODS
from onebox.node.decide import (
    VANISHED_GRACE_S,
    Action,
    BeginStop,
    Drain,
    Fail,
    Kill,
    Launch,
    LetGo,
    Observed,
    StopStage,
    Terminate,
    decide_pod,
    restarts,
)
from onebox.node.environment import CONFIG_ERROR
from onebox.node.images import lives_in
from onebox.node.launch_spec import LaunchSpec, Start, build_bare_launch, build_launch
from onebox.node.launcher import StartError
from onebox.node.logs import PodLogs
from onebox.node.machine import Machine
from onebox.node.pod_status import build_status
from onebox.node.ports import allocate, ports_annotation
from onebox.node.preparation import IMAGE_ERROR, prepare
from onebox.node.probe_spec import Exec
from onebox.node.probing import Health, initial_health
from onebox.node.process import RunningProcess
from onebox.node.run_watch import LOST, RunEnd, RunWatch
from onebox.node.spec import Container, Pod
from onebox.node.state import (
    ContainerRecord,
    Ended,
    PodRecord,
    Stage,
    Waiting,
    note_ended,
    note_not_started,
    note_running,
    note_starting,
    termination_reason,
)
from onebox.node.status_writer import StatusWriter
from onebox.processes import ProcessId

log = get_logger(__name__)

_BACKOFF_FIRST_S = 0.2
_BACKOFF_MAX_S = 30.0
"""Waits after a step that failed, doubling in between; guesses."""


class PodWorker:
    """Carries one pod from its creation to its end, whichever node process began it."""

    def __init__(self, machine: Machine, pod: Pod, record: PodRecord | None) -> None:
        self._machine = machine
        self._pod = pod
        self._record = record or new_record(machine, pod)
        self._logs = PodLogs(machine.home, self._record)
        self._observed: dict[str, Observed] = {}
        self._watches: dict[str, RunWatch] = {}
        self._changed = asyncio.Event()
        self._statuses = StatusWriter(machine, pod, on_written=self._changed.set)
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = False
        self._vanished = False

    @property
    def record(self) -> PodRecord:
        return self._record

    def update(self, pod: Pod) -> None:
        """Takes the newest state of the pod's object."""
        self._pod = pod
        self._changed.set()

    def vanish(self) -> None:
        """The object is gone: what runs is ended quickly, and nothing is told to anybody."""
        self._vanished = True
        grace_s = min(VANISHED_GRACE_S, self._pod.deletion_grace_s or VANISHED_GRACE_S)
        self.update(replace(self._pod, deletion_grace_s=int(grace_s)))

    async def run(self) -> None:
        """Returns when nothing of the pod is left, neither here nor at the API server."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            writing = group.create_task(self._statuses.run())
            await self._recover()
            await self._work()
            writing.cancel()
            for task in self._tasks:
                task.cancel()

    async def _work(self) -> None:
        backoff_s = _BACKOFF_FIRST_S
        while not self._over:
            self._changed.clear()
            try:
                await self._step()
                backoff_s = _BACKOFF_FIRST_S
            except TransientError as error:
                log.warning("step failed", pod=self._name, error=str(error), retry_s=backoff_s)
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)

    async def _step(self) -> None:
        if not self._record.ports and not self._pod.deleting:
            self._save(replace(self._record, ports=allocate(self._pod, self._machine.ports)))
            self._publish()  # Its address takes two writes to whoever waits for it, and so travels while it starts.
        now_s = self._machine.clock.monotonic_s()
        decision = decide_pod(self._pod, self._record, self._observed, now_s)
        for action in decision.actions:
            await self._perform(action)
        if decision.actions:
            return
        self._publish()
        timeout_s = None if decision.wake_s is None else max(0.0, decision.wake_s - now_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    async def _perform(self, action: Action) -> None:
        match action:
            case Launch(container):
                await self._launch(self._pod.container(container))
            case Drain(container, deadline_s):
                self._see(container, stop=StopStage.DRAINING, deadline_s=deadline_s)
                timeout_s = max(0.0, deadline_s - self._machine.clock.monotonic_s())
                self._begin(self._drain(container, self._watches[container], timeout_s))
            case Terminate(container, deadline_s):
                self._see(container, stop=StopStage.TERMINATED, deadline_s=deadline_s)
                self._watches[container].process.signal(signal.SIGTERM)
            case Kill(container):
                self._see(container, stop=StopStage.KILLED)
                self._watches[container].process.signal(signal.SIGKILL)
            case BeginStop(deadline_s):
                log.info("stopping pod", pod=self._name, grace_s=self._pod.deletion_grace_s)
                self._save(replace(self._record, stop_deadline_s=deadline_s))
            case Fail(failure):
                self._save(replace(self._record, failure=failure))
            case LetGo():
                await self._let_go()

    async def _launch(self, container: Container) -> None:
        """Starts a container, or notes why it cannot be started."""
        try:
            context = await prepare(self._machine, self._pod, self._record, container)
            launch = str(uuid.uuid4())
            next_entry = self._starting(container, launch)
            log_path = self._logs.path(container.name, next_entry.restarts)
            start = Start(container=container, launch=launch, restarts=next_entry.restarts, log=log_path)
            spec = build_launch(context, start)
        except UserError as error:
            self._note_trouble(container, error)
            return
        # The intent is on disk before the fork: a crash in between leaves a launch that can be looked for.
        self._save(self._record.with_container(container.name, next_entry))
        self._logs.forget_runs_before(container.name, next_entry.restarts)
        if await self._machine.launcher.attempt(spec):
            self._note_end(container, RunEnd(exit_code=0, reason=termination_reason(0)))
            return
        try:
            process = await self._machine.launcher.start(spec)
        except StartError as error:
            self._note_end(container, RunEnd(exit_code=128, message=str(error), reason="StartError"))
            return
        self._note_process(container, process, spec)

    def _starting(self, container: Container, launch: str) -> ContainerRecord:
        entry = self._record.container(container.name)
        return note_starting(entry, launch=launch, now_s=self._machine.clock.monotonic_s(), now_at=self._now_at())

    def _note_process(self, container: Container, process: RunningProcess, spec: LaunchSpec) -> None:
        entry = note_running(self._record.container(container.name), process.identity)
        self._save(self._record.with_container(container.name, entry))
        pid, restarts = process.identity.pid, entry.restarts
        log.info("started", pod=self._name, container=container.name, pid=pid, restarts=restarts)
        for other in self._pod.containers:
            if lives_in(self._pod, other, container):
                self._logs.alias(other.name, container.name)
        self._follow(container, process, spec, {})

    def _follow(
        self, container: Container, process: RunningProcess, spec: LaunchSpec, healths: Mapping[str, Health]
    ) -> None:
        watch = RunWatch(self._machine, self._pod, container, process, spec, self._record.ports)
        self._watches[container.name] = watch
        known = {other.name: healths.get(other.name) or initial_health(other) for other in watch.probed}
        for name, health in known.items():
            self._observed[name] = Observed(health=health)
        self._group.create_task(self._watch(container, watch, known))

    async def _watch(self, container: Container, watch: RunWatch, healths: Mapping[str, Health]) -> None:
        try:
            end = await watch.run(healths, self._on_health)
        finally:
            watch.process.close()
        self._note_end(container, end)
        self._changed.set()

    def _on_health(self, name: str, health: Health) -> None:
        before = self._observed[name].health
        self._see(name, health=health)
        self._changed.set()
        if health.failed:
            self._tell("Unhealthy", f"{health.failed.capitalize()} probe failed: {health.message}")
            self._tell("Killing", f"Container {name} failed {health.failed} probe, will be restarted")
        elif before.ready and not health.ready and health.message:
            self._tell("Unhealthy", f"Readiness probe failed: {health.message}")

    async def _drain(self, name: str, watch: RunWatch, timeout_s: float) -> None:
        await watch.drain(timeout_s)
        # The container may have ended meanwhile, and even run again.
        if self._watches.get(name) is watch and self._observed[name].stop is StopStage.DRAINING:
            self._see(name, stop=StopStage.DRAINED)
            self._changed.set()

    def _note_end(self, container: Container, end: RunEnd) -> None:
        entry = self._record.container(container.name)
        now_at = self._now_at()
        ended = Ended(
            exit_code=end.exit_code,
            reason=end.reason,
            message=end.message,
            started_at=entry.started_at,
            finished_at=now_at,
            launch=entry.launch,
            lost=end.lost,
        )
        self._watches.pop(container.name, None)
        entry = note_ended(entry, ended, now_s=self._machine.clock.monotonic_s())
        self._save(self._record.with_container(container.name, entry))
        log.info("ended", pod=self._name, container=container.name, exit_code=end.exit_code, reason=end.reason)
        if restarts(self._pod, container, entry) and entry.backoff_s and not self._pod.deleting:
            place = f"{self._pod.name}_{self._pod.namespace}({self._pod.uid})"
            self._tell("BackOff", f"Back-off restarting failed container {container.name} in pod {place}")

    def _note_trouble(self, container: Container, error: UserError) -> None:
        entry = self._record.container(container.name)
        reason = error.reason if error.reason == IMAGE_ERROR else CONFIG_ERROR
        waiting = Waiting(reason=reason, message=error.message)
        if entry.waiting != waiting:
            log.warning("cannot start", pod=self._name, container=container.name, reason=reason, error=error.message)
            self._tell("Failed" if error.reason in (IMAGE_ERROR, CONFIG_ERROR) else error.reason, error.message)
        entry = note_not_started(entry, waiting, now_s=self._machine.clock.monotonic_s())
        self._save(self._record.with_container(container.name, entry))

    async def _let_go(self) -> None:
        """Deletes the pod's object and all that it had here."""
        if not self._vanished:
            pod = self._pod
            await self._machine.client.delete(PODS, pod.name, pod.namespace, uid=pod.uid, grace_period_s=0)
        self._over = True
        self._machine.ports.release(self._record.ports.values())
        self._logs.remove()
        self._machine.records.remove(self._pod.uid)
        log.info("pod gone", pod=self._name)

    async def _recover(self) -> None:
        """Goes on with what an earlier node, or an earlier worker, has left."""
        for container in self._pod.all_containers:
            entry = self._record.container(container.name)
            if entry.stage is Stage.STARTING:
                await self._machine.sweeper.sweep(entry.launch, None)
                self._save(self._record.with_container(container.name, replace(entry, stage=Stage.WAITING)))
            elif entry.process is not None and entry.running:
                await self._adopt(container, entry, entry.process)

    async def _adopt(self, container: Container, entry: ContainerRecord, identity: ProcessId) -> None:
        process = self._machine.launcher.adopt(identity)
        if process is None:
            await self._machine.sweeper.sweep(entry.launch, None)
            self._note_end(container, LOST)
            return
        log.info("adopted", pod=self._name, container=container.name, pid=identity.pid)
        spec = await self._spec_of_run(container, entry)
        self._follow(container, process, spec, self._healths_before(entry))

    async def _spec_of_run(self, container: Container, entry: ContainerRecord) -> LaunchSpec:
        """How the run was started, as far as its probes and its end need to know."""
        log_path = self._logs.path(container.name, entry.restarts)
        start = Start(container=container, launch=entry.launch, restarts=entry.restarts, log=log_path)
        if runs_commands(container):
            # Commands run in the container's environment, which may hold secrets and is therefore not in the record.
            try:
                return build_launch(await prepare(self._machine, self._pod, self._record, container), start)
            except (UserError, TransientError) as error:
                log.warning("probes run without environment", pod=self._name, error=str(error))
        return build_bare_launch(self._machine.records.folder(self._pod.uid), start, self._machine.inherited)

    def _healths_before(self, entry: ContainerRecord) -> dict[str, Health]:
        """What the API server was told last: who was ready stays so until a probe says otherwise."""
        live = self._statuses.live()
        statuses = ((live or {}).get("status") or {}).get("containerStatuses") or ()
        return {
            status["name"]: Health(started=bool(status.get("started")), ready=bool(status.get("ready")))
            for status in statuses
            if status.get("started") and status.get("restartCount") == entry.restarts
        }

    def _publish(self) -> None:
        live = self._statuses.live()
        if live is None or self._pod.deleting:
            return
        status = build_status(
            self._pod, self._record, self._observed, previous=live.get("status") or {}, now_at=self._now_at()
        )
        self._statuses.offer(status, ports_annotation(self._record.ports))

    def _tell(self, reason: str, message: str) -> None:
        live = self._statuses.live()
        if live is not None:
            self._begin(self._machine.events.record(live, reason=reason, message=message, type_="Warning"))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        """Lets something go on beside the worker, at most until the worker ends."""
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _see(self, name: str, **news: object) -> None:
        self._observed[name] = replace(self._observed.get(name, Observed()), **news)  # type: ignore[arg-type]

    def _save(self, record: PodRecord) -> None:
        self._record = record
        self._machine.records.save(record)

    def _now_at(self) -> str:
        return rfc3339(self._machine.clock.wall_s())

    @property
    def _name(self) -> str:
        return f"{self._pod.namespace}/{self._pod.name}"


def runs_commands(container: Container) -> bool:
    """Whether a probe or a hook of this container is a command, which needs the container's environment."""
    probes = (container.startup, container.readiness, container.liveness)
    handlers = [probe.handler for probe in probes if probe is not None]
    return any(isinstance(handler, Exec) for handler in (*handlers, container.pre_stop))


def new_record(machine: Machine, pod: Pod) -> PodRecord:
    """The record of a pod that this node has not seen before; it gets its ports when it is first looked at."""
    return PodRecord(
        namespace=pod.namespace,
        name=pod.name,
        uid=pod.uid,
        started_at=rfc3339(machine.clock.wall_s()),
        started_s=machine.clock.monotonic_s(),
    )


def pod_of_record(record: PodRecord) -> Pod:
    """A pod whose object is gone: as much of it as is needed to end it."""
    containers = tuple(Container(name=name) for name in record.containers)
    return Pod(namespace=record.namespace, name=record.name, uid=record.uid, containers=containers)
