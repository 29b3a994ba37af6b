"""The autoscaler at work: real sockets, a scripted API server, pods that tell their load."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from controller.base.unix_socket import connected
from controller.kube.resources import DEPLOYMENTS, REVISIONS
from onebox.knative.autoscaler import autoscaler
from onebox.knative.autoscaler.report import Activity, ScaleReport
from onebox.knative.stats_link import socket_path
from tests.onebox.fake_pod import fake_pod
from tests.onebox.knative_autoscaler.conftest import Engine, running

SHORT_WINDOW = {"autoscaling.knative.dev/window": "6s"}
READY = {"ResourcesAvailable": "True", "Ready": "True"}


async def test_a_first_request_brings_a_pod_without_waiting_for_a_tick(
    stopped: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoscaler, "TICK_S", 3600)
    engine = stopped
    async with running(engine):
        engine.world.put_revision("r-1", conditions=READY)
        engine.world.put_deployment("r-1", 0)
        await engine.until("it is known to be idle", lambda: engine.board.of("default", "r-1"))
        assert engine.report().activity is Activity.INACTIVE
        assert engine.report().proxied
        await engine.tell()
        await engine.until("one replica", lambda: engine.world.replicas("r-1") == 1)
        await engine.until("activating", lambda: engine.report().activity is Activity.ACTIVATING)
        assert (engine.report().want, engine.report().reason) == (1, "Queued")


async def test_a_new_revision_becomes_active_with_its_first_pod(engine: Engine) -> None:
    engine.world.put_revision("r-1")
    engine.world.put_deployment("r-1", 1)
    await engine.known()
    assert engine.report() == ScaleReport(reason="Queued", message=engine.report().message)
    async with fake_pod() as pod:
        engine.world.put_pods("r-1", ready=[pod.ports])
        await engine.until("active", lambda: engine.report().activity is Activity.ACTIVE)
        assert (engine.report().initialized, engine.report().ready) == (True, 1)
    assert engine.writes() == []


async def test_the_load_of_pods_brings_more_of_them(engine: Engine) -> None:
    engine.world.put_revision("r-1", annotations=SHORT_WINDOW | {"autoscaling.knative.dev/target": "4"})
    engine.world.put_deployment("r-1", 1)
    async with fake_pod(concurrency=10.0) as pod:
        engine.world.put_pods("r-1", ready=[pod.ports])
        # 10 over 4 * 0.7: ceil(3.57).
        await engine.until("four replicas", lambda: engine.world.replicas("r-1") == 4)
        assert engine.report().want == 4
        assert not engine.report().proxied


async def test_what_the_activator_forwarded_counts_once(engine: Engine) -> None:
    engine.world.put_revision("r-1", annotations=SHORT_WINDOW | {"autoscaling.knative.dev/target": "4"})
    engine.world.put_deployment("r-1", 1)
    async with fake_pod(concurrency=10.0, proxied=8.0) as pod:
        engine.world.put_pods("r-1", ready=[pod.ports])
        await engine.until("a wish", lambda: engine.board.of("default", "r-1") and engine.report().want == 1)
        assert engine.world.replicas("r-1") == 1


async def test_the_last_pod_goes_only_when_requests_go_to_the_activator(engine: Engine) -> None:
    engine.world.put_revision("r-1", annotations=SHORT_WINDOW, conditions=READY)
    engine.world.put_deployment("r-1", 1)
    cluster = "outbound|80||r-1.default.svc.cluster.local"
    async with fake_pod() as pod:
        engine.gateway.hosts = {cluster: [pod.ports.data]}
        engine.world.put_pods("r-1", ready=[pod.ports])
        engine.world.put_public("r-1", pod.ports.data)
        await engine.until("inactive", lambda: engine.report().activity is Activity.INACTIVE)
        assert engine.report().proxied
        assert (engine.world.replicas("r-1"), engine.gateway.asked) == (1, [])
        engine.world.put_public("r-1", engine.gateway.port)  # That is what was meant to happen,
        await engine.until("the gateway is asked", lambda: len(engine.gateway.asked) >= 3)
        assert engine.world.replicas("r-1") == 1
        engine.gateway.hosts = {cluster: [engine.gateway.port]}  # and now it has happened.
        await engine.until("no replicas", lambda: engine.world.replicas("r-1") == 0)
        assert pod.scrapes >= 5


async def test_no_pod_goes_while_the_activator_does_not_answer_and_a_request_takes_all_back(engine: Engine) -> None:
    engine.world.put_revision("r-1", annotations=SHORT_WINDOW, conditions=READY)
    engine.world.put_deployment("r-1", 1)
    engine.gateway.activator_answers = False
    async with fake_pod() as pod:
        engine.world.put_pods("r-1", ready=[pod.ports])
        engine.world.put_public("r-1", engine.gateway.port)
        await engine.until("inactive", lambda: engine.report().activity is Activity.INACTIVE)
        await engine.until("the activator is asked", lambda: engine.gateway.probes >= 3)
        assert engine.gateway.asked == []
        await engine.tell()
        await engine.until("active again", lambda: engine.report().activity is Activity.ACTIVE)
        assert engine.writes() == []


async def test_the_bounds_of_a_revision_hold_at_once(engine: Engine) -> None:
    engine.world.put_revision("r-1", annotations={"autoscaling.knative.dev/min-scale": "3"})
    engine.world.put_deployment("r-1", 1)
    await engine.until("the minimum", lambda: engine.world.replicas("r-1") == 3)
    engine.world.put_revision("r-1", annotations={"autoscaling.knative.dev/min-scale": "5"})
    await engine.until("the new minimum", lambda: engine.world.replicas("r-1") == 5)


async def test_a_config_map_counts_from_when_it_changes_and_a_wrong_one_is_ignored(engine: Engine) -> None:
    engine.world.put_revision("r-1")
    engine.world.put_deployment("r-1", 1)
    await engine.known()
    engine.world.put_config("config-autoscaler", {"min-scale": "2"})
    await engine.until("the new minimum", lambda: engine.world.replicas("r-1") == 2)
    engine.world.put_config("config-autoscaler", {"min-scale": "many"})
    engine.world.put_config("config-deployment", {"progress-deadline": "soon"})
    engine.world.put_revision("r-2")
    engine.world.put_deployment("r-2", 1)
    await engine.until("the old minimum", lambda: engine.world.replicas("r-2") == 2)


async def test_replicas_that_somebody_else_wrote_are_set_right(engine: Engine) -> None:
    engine.world.put_revision("r-1", annotations={"autoscaling.knative.dev/min-scale": "2"})
    engine.world.put_deployment("r-1", 2)
    await engine.known()
    assert engine.writes() == []
    engine.world.put_deployment("r-1", 7)
    async with fake_pod() as first, fake_pod("pod-2") as second:
        engine.world.put_pods("r-1", ready=[first.ports, second.ports])
        await engine.until("the right number", lambda: engine.world.replicas("r-1") == 2)


async def test_a_quiet_world_is_not_written_to(engine: Engine) -> None:
    engine.world.put_revision("r-1", annotations={"autoscaling.knative.dev/min-scale": "1"}, conditions=READY)
    engine.world.put_deployment("r-1", 1)
    async with fake_pod() as pod:
        engine.world.put_pods("r-1", ready=[pod.ports])
        await engine.until("some scrapes", lambda: pod.scrapes >= 3)
    assert engine.writes() == []


async def test_a_deleted_revision_is_forgotten(engine: Engine) -> None:
    engine.world.put_revision("r-1")
    engine.world.put_deployment("r-1", 1)
    await engine.known()
    engine.world.api.remove(REVISIONS.path("default", "r-1"))
    await engine.until("forgotten", lambda: engine.board.of("default", "r-1") is None)
    engine.world.api.remove(DEPLOYMENTS.path("default", "r-1-deployment"))
    await engine.tell()  # Of somebody who did not hear of it yet.
    engine.world.put_revision("r-2")
    engine.world.put_deployment("r-2", 1)
    await engine.known("r-2")


async def test_a_pod_that_is_gone_does_not_hide_the_load_of_many_others(engine: Engine) -> None:
    engine.world.put_revision("r-1", annotations=SHORT_WINDOW | {"autoscaling.knative.dev/target": "4"})
    engine.world.put_deployment("r-1", 5)
    async with AsyncExitStack() as stack:
        async with fake_pod("gone") as gone:
            pass
        pods = [await stack.enter_async_context(fake_pod(f"pod-{n}", concurrency=4.0)) for n in range(4)]
        engine.world.put_pods("r-1", ready=[gone.ports, pods[0].ports])
        await engine.until("two scrapes", lambda: pods[0].scrapes >= 2)
        assert engine.report().want == -1  # One of two is no quorum: nothing is decided, nothing changes.
        engine.world.put_pods("r-1", ready=[gone.ports, *(pod.ports for pod in pods)])
        # Four of five are, and speak for the fifth: 20 over 2.8.
        await engine.until("a decision", lambda: engine.report().want == 8)


async def test_after_a_restart_nothing_is_taken_away_before_it_was_watched(stopped: Engine) -> None:
    engine = stopped
    engine.world.put_revision("r-1", annotations=SHORT_WINDOW, conditions=READY)
    engine.world.put_deployment("r-1", 2)
    async with fake_pod() as first, fake_pod("pod-2") as second:
        engine.world.put_pods("r-1", ready=[first.ports, second.ports])
        async with running(engine):
            await engine.until(
                "decisions", lambda: engine.report().want == 2 if engine.board.of("default", "r-1") else 0
            )
            assert engine.writes() == []
        async with running(engine):
            await engine.until("more scrapes", lambda: second.scrapes >= 4)
            assert engine.writes() == []
            await engine.until("one pod after the window", lambda: engine.world.replicas("r-1") == 1)


async def test_a_request_that_waits_is_heard_by_the_next_autoscaler(stopped: Engine) -> None:
    engine = stopped
    engine.world.put_revision("r-1", conditions=READY)
    engine.world.put_deployment("r-1", 0)
    async with running(engine):
        await engine.known()
    async with running(engine):
        await engine.tell(3.0)
        await engine.until("a replica", lambda: engine.world.replicas("r-1") == 1)


async def test_a_line_that_makes_no_sense_harms_nobody(engine: Engine) -> None:
    async with connected(socket_path(engine.world.home)) as (reader, writer):
        writer.write(b"nonsense\n")
        assert await reader.read() == b""
    engine.world.put_revision("r-1", conditions=READY)
    engine.world.put_deployment("r-1", 0)
    await engine.known()
    await engine.tell()
    await engine.until("a replica", lambda: engine.world.replicas("r-1") == 1)


async def test_an_activation_that_nobody_waits_for_any_more_ends(engine: Engine) -> None:
    """The client gave up before a pod was there: the wish goes back to none, once the window is over."""
    engine.world.put_revision(
        "r-1",
        annotations=SHORT_WINDOW,
        conditions=READY,
    )
    engine.world.put_deployment("r-1", 0)
    await engine.known()
    await engine.tell()
    await engine.until("a replica", lambda: engine.world.replicas("r-1") == 1)
    await engine.until("no wish", lambda: engine.report().want == -1)
    assert engine.report().activity is Activity.ACTIVATING
