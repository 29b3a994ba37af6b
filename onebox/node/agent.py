"""One worker for each pod of this node: from the API's objects, and from what an earlier node left behind."""

from __future__ import annotations

import asyncio
import signal

from controller.base.json import JsonView
from controller.base.logging import get_logger
from controller.kube.store import Change, ChangeKind
from onebox.node.launch_spec import LAUNCH_VARIABLE
from onebox.node.logs import PodLogs
from onebox.node.machine import Machine
from onebox.node.process_table import scan
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

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._workers: dict[str, PodWorker] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Until cancelled; processes of pods go on."""
        await self._machine.pods.synced()
        records = {record.uid: record for record in self._machine.records.load_all()}
        for record in records.values():
            self._machine.ports.reserve(record.ports.values())
        await asyncio.to_thread(self._kill_unknown, records)
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._recover(records)
            self._machine.pods.subscribe(self._on_change)
            group.create_task(self._rotate_logs())

    def _kill_unknown(self, records: dict[str, PodRecord]) -> None:
        """Ends processes of runs that no record knows: their pod's directory was lost."""
        known = {entry.launch for record in records.values() for entry in record.containers.values()}
        for seen in scan(self._machine.home.root):
            launch = seen.variables.get(LAUNCH_VARIABLE)
            if launch and launch not in known:
                log.warning("unknown process ended", pid=seen.identity.pid, launch=launch)
                seen.identity.signal(signal.SIGKILL)

    def _recover(self, records: dict[str, PodRecord]) -> None:
        live = {pod["metadata"]["uid"] for pod in self._machine.pods.items()}
        for record in records.values():
            if record.uid not in live:
                log.info("pod vanished while the node was away", namespace=record.namespace, pod=record.name)
                self._begin(pod_of_record(record), record).vanish()
        for item in self._machine.pods.items():
            pod = parse_pod(item)
            self._begin(pod, records.get(pod.uid))

    def _on_change(self, change: Change) -> None:
        uid = change.object["metadata"]["uid"]
        worker = self._workers.get(uid)
        if change.kind is ChangeKind.DELETED:
            if worker is not None:
                worker.vanish()
        elif worker is not None:
            worker.update(parse_pod(change.object))
        elif change.kind is ChangeKind.ADDED or not _over(change.object):
            self._begin(parse_pod(change.object), None)

    def _begin(self, pod: Pod, record: PodRecord | None) -> PodWorker:
        worker = PodWorker(self._machine, pod, record)
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


def _over(pod: JsonView) -> bool:
    """Whether a pod has nothing left to run here: its worker is gone, and this is an echo of its last write."""
    return bool(pod["metadata"].get("deletionTimestamp"))
