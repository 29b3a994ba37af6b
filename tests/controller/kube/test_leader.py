from __future__ import annotations

import asyncio
from typing import Any

import pytest

from controller.base.clock import SystemClock
from controller.kube.leader import LeaderElection, LeadershipLost, LeaseSettings
from tests.controller.kube.scripted_api import Connection
from tests.waiting import eventually

FAST = LeaseSettings(duration_s=1.0, renew_deadline_s=0.6, retry_s=0.05)
PATH = "/apis/coordination.k8s.io/v1/namespaces/ladle-system/leases/controller"


def election(connection: Connection, identity: str) -> LeaderElection:
    return LeaderElection(
        connection.client,
        namespace="ladle-system",
        name="controller",
        identity=identity,
        clock=SystemClock(),
        settings=FAST,
    )


def lease(connection: Connection) -> dict[str, Any]:
    spec: dict[str, Any] = connection.api.objects[PATH]["spec"]
    return spec


class Work:
    """Work that goes on until told to end."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.end = asyncio.Event()

    async def __call__(self) -> None:
        self.started.set()
        await self.end.wait()


async def test_one_leads_and_the_other_follows_when_it_stops(connection: Connection) -> None:
    first, second = Work(), Work()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(election(connection, "one").lead(first))
        await first.started.wait()
        tasks.create_task(election(connection, "two").lead(second))
        await eventually("the lease is renewed", lambda: _renewed(connection))
        assert lease(connection)["holderIdentity"] == "one"
        assert not second.started.is_set()
        first.end.set()
        await second.started.wait()
        assert lease(connection)["holderIdentity"] == "two"
        second.end.set()
    assert lease(connection)["holderIdentity"] == ""


async def _renewed(connection: Connection) -> bool:
    return bool(lease(connection)["renewTime"] != lease(connection)["acquireTime"])


async def test_a_silent_leader_is_replaced_after_its_lease(connection: Connection) -> None:
    spec = {
        "holderIdentity": "dead",
        "leaseDurationSeconds": 1,
        "leaseTransitions": 4,
        "renewTime": "2020-01-01T00:00:00.000000Z",
    }
    connection.api.put(PATH, {"spec": spec})
    clock, work = SystemClock(), Work()
    work.end.set()
    started_s = clock.monotonic_s()
    async with asyncio.timeout(30):
        await election(connection, "two").lead(work)
    assert clock.monotonic_s() - started_s >= 1.0
    assert lease(connection)["leaseTransitions"] == 5


async def test_a_leader_that_cannot_renew_stops_its_work(connection: Connection) -> None:
    work = Work()

    async def lead() -> None:
        with pytest.raises(LeadershipLost):
            await election(connection, "one").lead(work)

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(lead())
        await work.started.wait()
        connection.api.put(PATH, {"spec": {**lease(connection), "holderIdentity": "thief"}})
    assert lease(connection)["holderIdentity"] == "thief"


async def test_an_error_of_the_work_comes_through_and_frees_the_lease(connection: Connection) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        await election(connection, "one").lead(fail)
    assert caught.group_contains(ZeroDivisionError)
    assert lease(connection)["holderIdentity"] == ""
