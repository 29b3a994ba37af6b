"""kill -9 of the node at any time: processes go on, nothing starts twice, nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import signal
from collections import Counter
from typing import Any

import pytest

from controller.kube.resources import PODS
from onebox.node.launch_spec import LAUNCH_VARIABLE, POD_VARIABLE
from onebox.node.process import start_child
from onebox.node.process_table import scan
from onebox.processes import HOME_VARIABLE, identify
from tests.onebox.node.builders import container, pod_json, server
from tests.onebox.node.world import World, container_status, is_ready
from tests.waiting import wait_for


async def test_a_ready_pod_does_not_notice(world: World) -> None:
    await world.create(pod_json(server()))
    ready = await world.until("ready", is_ready)
    process = world.process(ready)
    world.kill_node()
    assert process.alive()
    world.start_node()
    await asyncio.to_thread(wait_for, "it is adopted", lambda: '"event": "adopted"' in world.log())
    # What the next node writes, if it writes, comes before it starts another pod.
    await world.create(pod_json(server(), name="other"))
    await world.until("the other is ready", is_ready, name="other")
    after = await world.pod()
    assert after is not None
    assert after["metadata"]["resourceVersion"] == ready["metadata"]["resourceVersion"]
    assert world.process(after) == process


async def test_an_adopted_process_is_watched_like_any_other(world: World) -> None:
    await world.create(pod_json(server()))
    ready = await world.until("ready", is_ready)
    world.kill_node()
    world.start_node()
    await asyncio.to_thread(wait_for, "it is adopted", lambda: '"event": "adopted"' in world.log())
    world.process(ready).signal(signal.SIGKILL)
    again = await world.until("restarted", lambda pod: is_ready(pod) and container_status(pod)["restartCount"] == 1)
    ended = container_status(again)["lastState"]["terminated"]
    assert ended["exitCode"] == 137  # By the kernel's word, or, before Linux 6.15, because it is not known.
    await world.client.delete(PODS, "pod", "default")
    await world.gone()
    await world.no_processes()


async def test_a_process_that_ended_meanwhile_is_started_again(world: World) -> None:
    await world.create(pod_json(server()))
    ready = await world.until("ready", is_ready)
    world.kill_node()
    process = world.process(ready)
    process.signal(signal.SIGKILL)
    wait_for("it is gone", lambda: not process.alive())
    world.start_node()
    again = await world.until("restarted", lambda pod: is_ready(pod) and container_status(pod)["restartCount"] == 1)
    ended = container_status(again)["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "ContainerStatusUnknown")


async def test_a_pod_that_was_deleted_meanwhile_is_ended(world: World) -> None:
    await world.create(pod_json(server()))
    await world.create(pod_json(server(), name="forced"))
    ready = await world.until("ready", is_ready)
    forced = await world.until("ready", is_ready, name="forced")
    world.kill_node()
    await world.client.delete(PODS, "pod", "default")
    await world.client.delete(PODS, "forced", "default", grace_period_s=0)
    await world.gone("forced")
    world.start_node()
    await world.gone()
    await world.no_processes()
    for value in (ready, forced):
        folder = world.home.node / "pods" / value["metadata"]["uid"]
        await asyncio.to_thread(wait_for, "its directory is gone", lambda: not folder.exists())  # noqa: B023


async def test_a_deletion_that_had_begun_goes_on(world: World) -> None:
    hook = {"preStop": {"exec": {"command": ["sleep", "600"]}}}
    await world.create(pod_json(server(lifecycle=hook), terminationGracePeriodSeconds=2))
    await world.until("ready", is_ready)
    await world.client.delete(PODS, "pod", "default")
    await asyncio.to_thread(wait_for, "the stop has begun", lambda: '"event": "stopping pod"' in world.log())
    world.kill_node()
    world.start_node()
    await world.gone()
    await world.no_processes()


async def test_sigterm_leaves_the_pods_running(world: World) -> None:
    await world.create(pod_json(server()))
    ready = await world.until("ready", is_ready)
    assert world.stop_node() == 0
    assert world.process(ready).alive()


async def test_pods_outlive_the_api_server_too(world: World) -> None:
    await world.create(pod_json(server()))
    ready = await world.until("ready", is_ready)
    process = world.process(ready)
    world.api.kill()
    await world.api.start()
    await world.create(pod_json(server(), name="other"))
    await world.until("another is ready", is_ready, name="other")
    assert process.alive()


async def test_what_was_started_and_never_written_down_is_ended(world: World) -> None:
    await world.create(pod_json(server()))
    ready = await world.until("ready", is_ready)
    world.kill_node()
    environment = {
        "PATH": os.environ["PATH"],
        HOME_VARIABLE: str(world.home.root),
        POD_VARIABLE: "u",
        LAUNCH_VARIABLE: "l",
    }
    with open(os.devnull, "wb") as output:  # noqa: ASYNC230  # Nothing blocks there.
        pid = start_child(["sleep", "600"], env=environment, cwd=world.home.root, output=output.fileno())
    world.start_node()
    await asyncio.to_thread(wait_for, "the stray is gone", lambda: identify(pid) is None)
    await asyncio.to_thread(os.waitpid, pid, 0)
    assert world.process(ready).alive()


async def test_an_interrupted_start_is_made_anew(world: World) -> None:
    """The node died after it wrote its intent, before or after the fork."""
    await world.create(pod_json(server()))
    ready = await world.until("ready", is_ready)
    world.kill_node()
    uid, process = ready["metadata"]["uid"], world.process(ready)
    path = world.home.node / "pods" / uid / "record.json"
    path.write_text(path.read_text().replace('"stage":"running"', '"stage":"starting"'))
    world.start_node()
    await asyncio.to_thread(wait_for, "the half-known one is gone", lambda: not process.alive())
    await asyncio.to_thread(
        wait_for, "another runs", lambda: world.record(uid)["containers"]["main"]["stage"] == "running"
    )
    after = await world.until("ready", is_ready)
    assert container_status(after)["restartCount"] == 0
    assert world.pod_processes() == [world.process(after)]


async def test_one_node_for_each_home(world: World) -> None:
    await world.create(pod_json(server()))
    await world.until("ready", is_ready)
    first = world.node
    assert first is not None
    world.start_node()
    second = world.node
    assert second is not None
    await asyncio.to_thread(second.wait, 30)
    assert second.returncode != 0
    world.node = first
    assert first.poll() is None
    assert len(world.pod_processes()) == 1


@pytest.mark.parametrize("seed", range(3))
async def test_a_node_killed_again_and_again_starts_nothing_twice(world: World, seed: int) -> None:
    rng = random.Random(seed)
    names = [f"pod-{number}" for number in range(12)]
    (world.home.root / "model").mkdir()
    (world.home.root / "model" / "model.joblib").touch()
    mount: dict[str, Any] = {"volumeMounts": [{"name": "model", "mountPath": "/mnt/models"}]}
    # One that a template forks, since a pinned file is more than a link, and one that is an ordinary child.
    source = f"file://{world.home.root}/model/model.joblib#sha256={hashlib.sha256().hexdigest()}"
    loader = container("load", image="kserve/storage-initializer", command=[], args=[source, "/mnt/models"], **mount)
    volumes = [{"name": "model", "emptyDir": {}}]
    for name in names:
        main = container(command=["sleep", "600"], **mount)
        await world.create(pod_json(main, name=name, initContainers=[loader], volumes=volumes))
    for _ in range(6):
        # The log grows as pods start: a moment in the middle of it, whatever the machine's speed.
        length = len(world.log()) + rng.randrange(200, 2500)
        with contextlib.suppress(AssertionError):  # Where all run already, the log is quiet.
            await asyncio.to_thread(wait_for, "it has begun", lambda: len(world.log()) > length, timeout_s=0.5)  # noqa: B023
        world.kill_node()
        assert_no_run_is_doubled(world)
        world.start_node()
    values = [await world.until("ready", is_ready, name=name) for name in names]
    assert set(world.pod_processes()) == {world.process(value) for value in values}
    await asyncio.gather(*(world.client.delete(PODS, name, "default") for name in names))
    for name in names:
        await world.gone(name)
    await world.no_processes()


def assert_no_run_is_doubled(world: World) -> None:
    runs = Counter(
        (seen.variables[POD_VARIABLE], seen.variables["LADLE_CONTAINER"])
        for seen in scan(world.home.root)
        if POD_VARIABLE in seen.variables
    )
    assert all(count == 1 for count in runs.values()), runs
