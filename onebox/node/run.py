"""Puts the node together and runs it."""

from __future__ import annotations

import asyncio
import os
import random

from controller.base.clock import Clock
from controller.kube.client import KubeClient
from controller.kube.events import EventRecorder
from controller.kube.informer import Informer
from controller.kube.resources import PODS
from onebox.home import Home
from onebox.node.agent import Agent
from onebox.node.images import PRELOADS
from onebox.node.launcher import Launcher
from onebox.node.machine import Machine, cpu_count, inherited_variables, memory_bytes
from onebox.node.ports import PortPool
from onebox.node.process_table import Sweeper
from onebox.node.records import RecordStore
from onebox.node.registration import NODE_NAME, register


async def run(client: KubeClient, home: Home, clock: Clock) -> None:
    """Runs pods until cancelled; their processes and the templates outlive it."""
    machine = build_machine(client, home, clock)
    await register(client, cpus=machine.cpus, memory_bytes=machine.memory_bytes, now_s=clock.wall_s())
    async with asyncio.TaskGroup() as group:
        for template in machine.launcher.templates:
            group.create_task(template.run())
        group.create_task(machine.pods.run())
        group.create_task(Agent(machine).run())


def build_machine(client: KubeClient, home: Home, clock: Clock) -> Machine:
    rng = random.SystemRandom()
    inherited = inherited_variables(os.environ)
    return Machine(
        home=home,
        client=client,
        pods=Informer(client, PODS, field_selector=f"spec.nodeName={NODE_NAME}", clock=clock, rng=rng),
        events=EventRecorder(client, "ladle-node", clock),
        clock=clock,
        records=RecordStore(home, clock),
        # Homes on one machine begin at different places of the range, so that they seldom want the same port.
        ports=PortPool(start=rng.randrange(10_000)),
        launcher=Launcher.for_home(home, PRELOADS, inherited),
        sweeper=Sweeper(home.root),
        inherited=inherited,
        cpus=cpu_count(),
        memory_bytes=memory_bytes(),
    )
