"""What all pods of this node share: the machine, and the node's connections to it and to the API."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.base.clock import Clock
from controller.kube.client import KubeClient
from controller.kube.events import EventRecorder
from controller.kube.informer import Informer
from onebox.home import Home
from onebox.node.environment import INHERITED
from onebox.node.launcher import Launcher
from onebox.node.memory_kills import MemoryKills
from onebox.node.ports import PortPool
from onebox.node.process_table import Sweeper
from onebox.node.records import RecordStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    home: Home
    client: KubeClient
    pods: Informer
    events: EventRecorder
    clock: Clock
    records: RecordStore
    ports: PortPool
    launcher: Launcher
    sweeper: Sweeper
    memory_kills: MemoryKills
    inherited: Mapping[str, str]
    cpus: int
    memory_bytes: int


def inherited_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """What every process of a pod gets of this environment; `python` is the one that runs the node."""
    chosen = {name: environment[name] for name in INHERITED if name in environment}
    path = [str(Path(sys.executable).parent), *(chosen.get("PATH") or os.defpath).split(os.pathsep)]
    return {**chosen, "PATH": os.pathsep.join(dict.fromkeys(path))}


def cpu_count() -> int:
    return len(os.sched_getaffinity(0))


def memory_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
