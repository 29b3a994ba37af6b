"""What the node remembers about a pod, on disk, so that another node process can go on where this one was killed.

Times that decide (`*_s`) are seconds of the machine's monotonic clock, which all processes since boot share; times that
people read (`*_at`) are Kubernetes timestamps. (pure)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from controller.base.json import JsonObject, JsonView
from onebox.processes import ProcessId

EXIT_CODE_UNKNOWN = 137
"""Exit code reported for a process that ended while nobody looked; kubelet reports the same for a lost container."""


BACKOFF_FIRST_S = 10.0
BACKOFF_MAX_S = 300.0
STABLE_S = 600.0
"""Kubelet's numbers; after a run of STABLE_S (twice the longest back-off) the back-off begins anew."""
START_BACKOFF_MAX_S = 60.0
"""Longest wait for a ConfigMap, Secret or image mapping to appear; a guess between quick and quiet."""
_DOUBLINGS_MAX = 16
"""Beyond any of the limits above; keeps the powers small."""


class Stage(StrEnum):
    """Where one container is."""

    WAITING = "waiting"
    """Not started (again) yet."""
    STARTING = "starting"
    """About to be forked: written before the fork, so that a crash in between leaves a trace."""
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why a container does not run; the words are kubelet's."""

    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How one run of a container ended. `lost`: its exit code is not known."""

    exit_code: int
    reason: str
    started_at: str
    finished_at: str
    message: str = ""
    launch: str = ""
    lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRecord:
    """One container of one pod; `restarts` numbers its runs, and its log files, from 0."""

    stage: Stage = Stage.WAITING
    launch: str = ""
    """Id of the newest run, unique on this machine: also in the process's environment as LADLE_LAUNCH."""
    restarts: int = 0
    process: ProcessId | None = None
    started_at: str = ""
    started_s: float = 0.0
    ended: Ended | None = None
    previous: Ended | None = None
    waiting: Waiting | None = None
    crashes: int = 0
    """Runs that ended, in a row, without one that lasted; and starts that failed."""
    retry_s: float = 0.0
    """Not before this time, the container is started (again)."""

    @property
    def running(self) -> bool:
        return self.stage is Stage.RUNNING

    @property
    def backoff_s(self) -> float:
        """The wait that the newest crash caused."""
        return crash_backoff_s(self.crashes)

    @property
    def succeeded(self) -> bool:
        return self.stage is Stage.ENDED and self.ended is not None and self.ended.exit_code == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRecord:
    """One pod. `ports` maps container ports to the loopback ports that stand for them."""

    namespace: str
    name: str
    uid: str
    started_at: str
    started_s: float
    ports: Mapping[int, int] = field(default_factory=dict)
    containers: Mapping[str, ContainerRecord] = field(default_factory=dict)
    stop_deadline_s: float | None = None
    """When what still runs is killed; None while the pod shall run."""
    failure: Waiting | None = None
    """Why the node ended the pod for good, whatever its containers did."""

    def container(self, name: str) -> ContainerRecord:
        return self.containers.get(name) or ContainerRecord()

    def with_container(self, name: str, record: ContainerRecord) -> PodRecord:
        return replace(self, containers={**self.containers, name: record})

    def processes(self) -> Iterator[tuple[str, ProcessId]]:
        """Every process that is recorded as running, by container."""
        for name, record in self.containers.items():
            if record.process is not None and record.running:
                yield name, record.process

    @property
    def folder(self) -> str:
        """`<namespace>_<pod>_<uid>`: kubelet's name for a pod's log directory."""
        return f"{self.namespace}_{self.name}_{self.uid}"


def crash_backoff_s(crashes: int) -> float:
    """Wait before the restart after so many crashes: none, then 10 s, doubling to 300 s, as kubelet does it.

    >>> [crash_backoff_s(crashes) for crashes in (1, 2, 3, 7, 50)]
    [0.0, 10.0, 20.0, 300.0, 300.0]
    """
    if crashes < 2:
        return 0.0
    return min(BACKOFF_FIRST_S * 2.0 ** min(crashes - 2, _DOUBLINGS_MAX), BACKOFF_MAX_S)


def start_backoff_s(failures: int) -> float:
    """Wait before the next try of a start that failed so often: 1 s, doubling to 60 s; what is missing may appear."""
    return min(2.0 ** min(failures - 1, _DOUBLINGS_MAX), START_BACKOFF_MAX_S)


def note_starting(record: ContainerRecord, *, launch: str, now_s: float, now_at: str) -> ContainerRecord:
    """The record of a container that is forked next: after its first run this is a restart."""
    again = record.stage is Stage.ENDED
    return replace(
        record,
        stage=Stage.STARTING,
        launch=launch,
        restarts=record.restarts + 1 if again else record.restarts,
        previous=record.ended if again else record.previous,
        ended=None,
        process=None,
        started_at=now_at,
        started_s=now_s,
        retry_s=0.0,
    )


def note_running(record: ContainerRecord, process: ProcessId | None) -> ContainerRecord:
    """`process` None: it was forked and has ended already."""
    failures = 0 if record.waiting else record.crashes
    return replace(record, stage=Stage.RUNNING, process=process, waiting=None, crashes=failures)


def note_not_started(record: ContainerRecord, waiting: Waiting, *, now_s: float) -> ContainerRecord:
    """The record of a container that cannot be started now; an earlier run stays visible as its last state."""
    failures = record.crashes + 1 if record.waiting else 1
    return replace(record, waiting=waiting, crashes=failures, retry_s=now_s + start_backoff_s(failures), process=None)


def note_ended(record: ContainerRecord, ended: Ended, *, now_s: float) -> ContainerRecord:
    """The record after a run; a run that ended unseen says nothing about the program, so it costs no back-off."""
    lasted = now_s - record.started_s > STABLE_S
    crashes = record.crashes if ended.lost else 1 if lasted else record.crashes + 1
    retry_s = now_s if ended.lost else now_s + crash_backoff_s(crashes)
    return replace(record, stage=Stage.ENDED, ended=ended, crashes=crashes, retry_s=retry_s, waiting=None, process=None)


def termination_reason(exit_code: int) -> str:
    return "Completed" if exit_code == 0 else "Error"


def dump_record(record: PodRecord) -> JsonObject:
    return asdict(record)


def parse_record(value: JsonView, *, now_s: float) -> PodRecord:
    """The stored record; times after now are of an earlier boot and count as now."""
    containers = {name: _container(item, now_s) for name, item in value["containers"].items()}
    ports = {int(port): actual for port, actual in value["ports"].items()}
    known = {**value, "containers": containers, "ports": ports, "started_s": min(value["started_s"], now_s)}
    known["failure"] = Waiting(**value["failure"]) if value["failure"] else None
    if value["started_s"] > now_s:
        known["stop_deadline_s"] = None
    return PodRecord(**known)


def _container(value: JsonView, now_s: float) -> ContainerRecord:
    known: dict[str, Any] = dict(value)
    known["stage"] = Stage(value["stage"])
    known["process"] = ProcessId(**value["process"]) if value["process"] else None
    known["waiting"] = Waiting(**value["waiting"]) if value["waiting"] else None
    known["ended"] = Ended(**value["ended"]) if value["ended"] else None
    known["previous"] = Ended(**value["previous"]) if value["previous"] else None
    known["started_s"] = min(value["started_s"], now_s)
    known["retry_s"] = min(value["retry_s"], now_s + BACKOFF_MAX_S)
    return ContainerRecord(**known)
