"""Watches one run of a container until nothing of it is left: probes, its end, the rest of its processes, its last words."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onebox.node.images import Role, embeds_proxy, lives_in, role_of, runtime_of
from onebox.node.launch_spec import LaunchSpec
from onebox.node.logs import read_termination_message
from onebox.node.machine import Machine
from onebox.node.ports import STATS_PORT
from onebox.node.probe_run import Target, keep_probing, perform
from onebox.node.probe_spec import HttpGet
from onebox.node.probing import Health, initial_health
from onebox.node.process import RunningProcess
from onebox.node.spec import Container, Pod
from onebox.node.state import EXIT_CODE_UNKNOWN, termination_reason

DRAIN_PATH = "/wait-for-drain"
LOST_REASON = "ContainerStatusUnknown"
OUT_OF_MEMORY = "OOMKilled"
"""Kubelet's word."""
_LOST_MESSAGE = "The process ended while the node did not run; its exit code is not known"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """How a run ended. `lost`: nobody saw it."""

    exit_code: int
    reason: str
    message: str = ""
    lost: bool = False


LOST = RunEnd(exit_code=EXIT_CODE_UNKNOWN, reason=LOST_REASON, message=_LOST_MESSAGE, lost=True)


class RunWatch:
    """One process of a container, from its start, or its adoption, to its end."""

    def __init__(
        self,
        machine: Machine,
        pod: Pod,
        container: Container,
        process: RunningProcess,
        spec: LaunchSpec,
        ports: Mapping[int, int],
    ) -> None:
        self.process = process
        self._machine = machine
        self._pod = pod
        self._container = container
        self._spec = spec
        self._ports = ports
        self._embedding = embeds_proxy(pod, container)

    @property
    def probed(self) -> tuple[Container, ...]:
        """The containers that live in this process: its own, and those that are inside of it."""
        embedded = (other for other in self._pod.containers if lives_in(self._pod, other, self._container))
        return (self._container, *embedded)

    async def run(self, healths: Mapping[str, Health], on_health: Callable[[str, Health], None]) -> RunEnd:
        """Returns when no process of the run is left; `healths` is what is known of the probed containers so far."""
        async with asyncio.TaskGroup() as group:
            probes = [
                group.create_task(self._probe(other, healths.get(other.name) or initial_health(other), on_health))
                for other in self.probed
            ]
            code = await self.process.ended()
            for task in probes:
                task.cancel()
        if not self._leaves_nothing(code):
            await self._machine.sweeper.sweep(self._spec.launch, self.process.identity.pid)
        return LOST if code is None else self._end(code)

    def _leaves_nothing(self, code: int | None) -> bool:
        """Whether no look for further processes is needed, which reads all of /proc: a storage initializer that succeeded has
        waited for what it started, and the pod's server waits for it."""
        runtime = runtime_of(self._container)
        own = role_of(self._pod, self._container, {}) is Role.RUNTIME
        return code == 0 and own and runtime is not None and not runtime.serves

    async def _probe(self, container: Container, health: Health, on_health: Callable[[str, Health], None]) -> None:
        target = self._target(container)
        await keep_probing(target, health, lambda news: on_health(container.name, news), self._machine.clock)

    def _target(self, container: Container) -> Target:
        return Target(
            container=container,
            ports=self._ports,
            env=self._spec.env,
            cwd=self._spec.cwd,
            embedded=self._embedding,
        )

    async def drain(self, timeout_s: float) -> None:
        """Returns when the container may be terminated, for all that its hook says; after `timeout_s` at the latest."""
        container = self._container
        if self._embedding or role_of(self._pod, container, {}) is Role.PROXY:
            hook = HttpGet(port=STATS_PORT, path=DRAIN_PATH)
            await perform(hook, self._target(container), timeout_s=timeout_s)
        elif container.pre_stop is not None:
            await perform(container.pre_stop, self._target(container), timeout_s=timeout_s)

    def _end(self, code: int) -> RunEnd:
        # As a shell, and every container runtime, tells that a signal ended a process.
        exit_code = 128 - code if code < 0 else code
        fall_back = self._container.logs_are_message and exit_code != 0
        message = read_termination_message(self._spec.termination_log, self._spec.log, fall_back=fall_back)
        out_of_memory = code == -signal.SIGKILL and self._machine.memory_kills.recent()
        reason = OUT_OF_MEMORY if out_of_memory else termination_reason(exit_code)
        return RunEnd(exit_code=exit_code, reason=reason, message=message)
