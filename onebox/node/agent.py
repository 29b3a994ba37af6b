"""One worker for each pod of this node: from the API's objects, and from what an earlier node left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from controller.base.logging import get_logger
from controller.kube.store import Change, ChangeKind
from onebox.node.logs import PodLogs
from onebox.node.machine import Machine
from onebox.node.memory_kills import RECENT_S
from onebox.node.spec import Pod, parse_pod
from onebox.node.state import PodRecord
from onebox.node.worker import PodWorker, pod_of_record

log = get_logger(__name__)

_RESTART_S = 1.0
"""Wait before the worker of a pod is begun anew after a bug in it; a guess."""
_ROTATE_INTERVAL_S = 10.0
"""How often logs are looked at (kubelet's container-log-monitor-interval)."""


class Agent:
    """Keeps a worker for every pod until nothing of it is left. Workers may be begun anew at any time."""

    def __init__(self, machine: Machine, records: Iterable[PodRecord]) -> None:
        """`records`: what an earlier node left."""
        self._machine = machine
        self._records = {record.uid: record for record in records}
        self._workers: dict[str, PodWorker] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Until cancelled; processes of pods go on."""
        await self._machine.pods.synced()
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._end_vanished()
            self._machine.pods.subscribe(self._on_change)
            group.create_task(self._rotate_logs())
            group.create_task(self._look_at_memory_kills())

    def _end_vanished(self) -> None:
        live = {pod["metadata"]["uid"] for pod in self._machine.pods.items()}
        for uid in self._records.keys() - live:
            pod = pod_of_record(self._records[uid])
            log.info("pod vanished while the node was away", namespace=pod.namespace, pod=pod.name)
            self._begin(pod).vanish()

    def _on_change(self, change: Change) -> None:
        uid = change.object["metadata"]["uid"]
        worker = self._workers.get(uid)
        if change.kind is ChangeKind.DELETED:
            if worker is not None:
                worker.vanish()
            return
        try:
            pod = parse_pod(change.object)
        except (LookupError, TypeError, ValueError) as error:
            # The API server checks what it stores; whatever else this pod is, it must not take the others' node away.
            log.error("pod not understood", uid=uid, error=repr(error))
            return
        if worker is not None:
            worker.update(pod)
        elif change.kind is ChangeKind.ADDED or not pod.deleting:  # Else an echo of its last write: its worker is gone.
            self._begin(pod)

    def _begin(self, pod: Pod) -> PodWorker:
        worker = PodWorker(self._machine, pod, self._records.pop(pod.uid, None))
        self._workers[pod.uid] = worker
        assert self._group is not None
        self._group.create_task(self._carry(pod.uid, worker))
        return worker

    async def _carry(self, uid: str, worker: PodWorker) -> None:
        """Runs a worker to its end; one that fails by a bug is replaced, and the other pods go on."""
        while True:
            try:
                await worker.run()
            except Exception as error:  # A loop top: one pod's bug must not take the others' node away.
                log.error("worker failed", uid=uid, exc_info=error)
                await asyncio.sleep(_RESTART_S)
                worker = self._again(uid, worker)
                continue
            if self._workers.get(uid) is worker:
                del self._workers[uid]
            return

    def _again(self, uid: str, failed: PodWorker) -> PodWorker:
        record = failed.record
        live = self._machine.pods.get(record.namespace, record.name)
        present = live is not None and live["metadata"]["uid"] == uid
        worker = PodWorker(self._machine, parse_pod(live) if live and present else pod_of_record(record), record)
        if not present:
            worker.vanish()
        self._workers[uid] = worker
        return worker

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(_ROTATE_INTERVAL_S)
            for worker in list(self._workers.values()):
                try:
                    await asyncio.to_thread(PodLogs(self._machine.home, worker.record).rotate)
                except OSError as error:
                    log.warning("log not rotated", pod=worker.record.name, error=str(error))

    async def _look_at_memory_kills(self) -> None:
        """So that a container's end is not explained by somebody else's of hours ago."""
        while True:
            await asyncio.sleep(RECENT_S)
            self._machine.memory_kills.recent()
