"""Puts the node together and runs it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from controller.base.clock import Clock
from controller.base.errors import TransientError
from controller.base.logging import get_logger
from controller.base.metrics_socket import metrics_on
from controller.kube.client import KubeClient
from controller.kube.errors import ApiError
from controller.kube.events import EventRecorder
from controller.kube.informer import Informer
from controller.kube.resources import PODS
from onebox.home import Home, metrics_socket
from onebox.node.agent import Agent
from onebox.node.images import chosen_preloads
from onebox.node.launcher import Launcher
from onebox.node.machine import Machine, cpu_count, inherited_variables, memory_bytes
from onebox.node.memory_kills import MemoryKills
from onebox.node.ports import PortPool
from onebox.node.predictors import gateway_variables
from onebox.node.process_table import Sweeper, scan
from onebox.node.records import RecordStore
from onebox.node.registration import NODE_NAME, register
from onebox.node.state import PodRecord
from onebox.node.strays import find_strays
from onebox.node.template import template_records
from onebox.open_files import allow_open_files

log = get_logger(__name__)

_LOCK_TIMEOUT_S = 3.0
_LOCK_POLL_S = 0.05
"""A node that was told to end does so in milliseconds; one that does not is not to be fought. Guesses."""
_REGISTER_RETRY_S = 1.0
"""A guess: the API server starts in about that time."""


async def run(client: KubeClient, home: Home, clock: Clock) -> None:
    """Runs pods until cancelled; their processes and the templates outlive it."""
    allow_open_files()  # A pod has three or four of them.
    async with sole_node(home):
        machine = assemble(client, home, clock)
        records = machine.records.load_all()
        machine.ports.reserve(port for record in records for port in record.ports.values())
        await asyncio.to_thread(end_strays, home, records)  # Before anything is started that has no record yet.
        collect = machine.launcher.starts.collect
        async with metrics_on(metrics_socket(home, "node"), [collect]), asyncio.TaskGroup() as group:
            for template in machine.launcher.templates:
                group.create_task(template.run())
            group.create_task(machine.pods.run())
            group.create_task(_register(machine))
            group.create_task(Agent(machine, records).run())


@asynccontextmanager
async def sole_node(home: Home) -> AsyncIterator[None]:
    """Holds the lock of this home's node. It waits a while, since an earlier node may be about to end; then TimeoutError."""
    home.node.mkdir(parents=True, exist_ok=True)
    lock = os.open(home.node / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        async with asyncio.timeout(_LOCK_TIMEOUT_S):
            while not _locked(lock):  # noqa: ASYNC110  # A file lock wakes nobody.
                await asyncio.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def end_strays(home: Home, records: Sequence[PodRecord]) -> None:
    """Ends what an earlier node started and never wrote down."""
    templates = [record.process for record in template_records(home).values()]
    for stray in find_strays(scan(home.root), records, templates):
        log.warning("ended a process without a record", pid=stray.pid)
        stray.signal(signal.SIGKILL)


async def _register(machine: Machine) -> None:
    """Tries until it succeeds: the API server may be about to come up."""
    while True:
        try:
            now_s = machine.clock.wall_s()
            await register(machine.client, cpus=machine.cpus, memory_bytes=machine.memory_bytes, now_s=now_s)
            return
        except (ApiError, TransientError) as error:
            log.warning("node not registered", error=str(error), retry_s=_REGISTER_RETRY_S)
            await asyncio.sleep(_REGISTER_RETRY_S)


def assemble(client: KubeClient, home: Home, clock: Clock) -> Machine:
    rng = random.SystemRandom()
    inherited = inherited_variables(os.environ) | gateway_variables(home.settings().local_gateway_port)
    return Machine(
        home=home,
        client=client,
        pods=Informer(client, PODS, field_selector=f"spec.nodeName={NODE_NAME}", clock=clock, rng=rng),
        events=EventRecorder(client, "ladle-node", clock),
        clock=clock,
        records=RecordStore(home, clock),
        # Homes on one machine begin at different places of the range, so that they seldom want the same port.
        ports=PortPool(start=rng.randrange(10_000)),
        launcher=Launcher.for_home(home, chosen_preloads(os.environ), inherited),
        sweeper=Sweeper(home.root),
        memory_kills=MemoryKills(clock),
        inherited=inherited,
        cpus=cpu_count(),
        memory_bytes=memory_bytes(),
    )
