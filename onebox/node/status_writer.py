"""Writes the status of one pod: soon when others wait for the news, later when more is about to change, else never."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from controller.base.errors import TransientError
from controller.base.json import JsonObject, JsonView
from controller.base.logging import get_logger
from controller.kube.errors import ApiError, Conflict, NotFound
from controller.kube.resources import PODS
from onebox.node.machine import Machine
from onebox.node.pod_status import write_delay_s
from onebox.node.ports import PORTS_ANNOTATION
from onebox.node.spec import Pod

log = get_logger(__name__)

_RETRY_S = 1.0
"""Wait after a failed write: the API server restarts in about that time. A guess."""


class StatusWriter:
    """At most one write is under way; what is offered meanwhile waits for its end, and is then decided anew."""

    def __init__(self, machine: Machine, pod: Pod, *, on_written: Callable[[], None]) -> None:
        self._machine = machine
        self._namespace, self._name, self._uid = pod.namespace, pod.name, pod.uid
        self._on_written = on_written
        self._wanted: tuple[JsonObject, str] | None = None
        self._written: tuple[JsonObject, str] | None = None
        self._due_s = 0.0
        self._woken = asyncio.Event()

    def live(self) -> JsonView | None:
        """The pod as the API server has it, as far as is known; None where it is gone."""
        found = self._machine.pods.get(self._namespace, self._name)
        return found if found is not None and found["metadata"]["uid"] == self._uid else None

    def offer(self, status: JsonObject, ports: str) -> None:
        """Sees to it that this becomes the pod's status, unless it is."""
        live = self.live()
        delay_s = None if live is None else _delay_s(live, status, ports)
        # A server that stores something else than it was given must not be written to without end.
        if delay_s is None or self._written == (status, ports):
            self._wanted = None
            return
        due_s = self._machine.clock.monotonic_s() + delay_s
        self._due_s = due_s if self._wanted is None else min(self._due_s, due_s)
        self._wanted = status, ports
        self._woken.set()

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            wait_s = self._due_s - self._machine.clock.monotonic_s()
            if self._wanted is not None and wait_s > 0:
                asyncio.get_running_loop().call_later(wait_s, self._woken.set)
            elif self._wanted is not None:
                wanted, self._wanted = self._wanted, None
                await self._write(*wanted)
                self._on_written()

    async def _write(self, status: JsonObject, ports: str) -> None:
        # The uid makes the write fail where another pod has the name by now.
        meta = {"uid": self._uid, "annotations": {PORTS_ANNOTATION: ports}}
        body = {"metadata": meta, "status": status}
        try:
            written = await self._machine.client.patch(
                PODS, self._name, self._namespace, body, subresource="status", field_manager="ladle-node"
            )
        except (NotFound, Conflict):
            return
        except (ApiError, TransientError) as error:
            log.warning("status not written", namespace=self._namespace, pod=self._name, error=str(error))
            await asyncio.sleep(_RETRY_S)
        else:
            self._written = status, ports
            self._machine.pods.remember(written)


def _delay_s(live: JsonView, status: JsonObject, ports: str) -> float | None:
    if (live["metadata"].get("annotations") or {}).get(PORTS_ANNOTATION) != ports:
        return 0.0
    return write_delay_s(live.get("status") or {}, status)
