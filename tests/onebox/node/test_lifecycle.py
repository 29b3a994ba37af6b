"""Pods from their creation to their end: a real API server, a real node, real processes."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import aiohttp

from controller.base.json import JsonObject
from controller.kube.resources import CONFIG_MAPS, EVENTS, NAMESPACES, NODES, PODS, SECRETS
from tests.onebox.node.builders import HTTP, READY, SERVER, container, knative_containers, pod_json, python, server
from tests.onebox.node.world import World, condition, container_status, is_ready, port
from tests.waiting import eventually, wait_for


async def fetch(number: int, path: str = "/") -> str:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{number}{path}") as answer:
        return await answer.text()


def config_map(name: str, namespace: str = "default", **data: str) -> JsonObject:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


async def delete(world: World, name: str = "pod", **options: Any) -> None:
    await world.client.delete(PODS, name, "default", **options)


async def reasons(world: World, name: str = "pod") -> set[str]:
    listed = await world.client.list(EVENTS, "default")
    return {item["reason"] for item in listed.items if item["involvedObject"]["name"] == name}


async def test_a_pod_serves_and_ends(world: World) -> None:
    await world.create(pod_json(server()))
    ready = await world.until("ready", is_ready)
    assert await fetch(port(ready)) == "pod"
    status = container_status(ready)
    assert (status["started"], status["restartCount"], list(status["state"])) == (True, 0, ["running"])
    assert ready["status"]["phase"] == "Running"
    uid = ready["metadata"]["uid"]
    log = world.home.pod_logs / f"default_pod_{uid}" / "main" / "0.log"
    with log.open() as kept:
        await delete(world)
        await world.gone()
        assert kept.read() == "serving\nterminated\n"
    await world.no_processes()
    wait_for(
        "its directories are gone", lambda: not (world.home.node / "pods" / uid).exists() and not log.parent.exists()
    )


async def test_few_writes_lead_to_readiness_and_then_none(world: World) -> None:
    loader = python("print('loaded')", "load")
    created = await world.create(pod_json(server(), initContainers=[loader]))
    ready = await world.until("ready", is_ready)
    version = created["metadata"]["resourceVersion"]
    writes = [
        event.object
        async for event in world.client.watch(PODS, "default", resource_version=version, timeout_s=1)
        if event.type == "MODIFIED"
    ]
    assert 1 <= len(writes) <= 3
    assert writes[-1]["metadata"]["resourceVersion"] == ready["metadata"]["resourceVersion"]
    assert "onebox.ladle.dev/ports" in writes[0]["metadata"]["annotations"]


async def test_a_server_that_never_listens_is_never_ready(world: World) -> None:
    """Not for a moment, also where its pod's object changes while it starts: its readiness is the queue-proxy's."""
    names = [f"bad-{number}" for number in range(6)]
    created = [await world.create(bad_server(name)) for name in names]
    for turn in range(20):
        for name in names:
            labels = {"metadata": {"labels": {"turn": str(turn)}}}
            await world.client.patch(PODS, name, "default", labels, field_manager="test")
    for name in names:
        await world.until("it crashed", has_crashed, name=name)
    first = min(int(value["metadata"]["resourceVersion"]) for value in created)
    seen = [
        event.object
        async for event in world.client.watch(PODS, "default", resource_version=str(first), timeout_s=1)
        if event.type == "MODIFIED" and "conditions" in event.object["status"]
    ]
    assert {value["metadata"]["name"] for value in seen} == set(names)
    assert [value["metadata"]["name"] for value in seen if is_ready(value)] == []


def has_crashed(value: JsonObject) -> bool:
    statuses = value.get("status", {}).get("containerStatuses") or ()
    return any(status["restartCount"] > 0 for status in statuses)


def bad_server(name: str) -> JsonObject:
    user, proxy = knative_containers(args=["--model_name=iris", "--log-url=nowhere"])
    return pod_json(user, proxy, name=name)


async def test_a_model_on_this_machine_is_linked_without_a_process(world: World) -> None:
    model = world.home.root / "model"
    model.mkdir()
    (model / "weights").write_text("w")
    mount: dict[str, Any] = {"volumeMounts": [{"name": "model", "mountPath": "/mnt/models"}]}
    arguments = [f"file://{model}", "/mnt/models"]
    loader = container("load", image="kserve/storage-initializer", command=[], args=arguments, **mount)
    main = container(command=["sh", "-c", "cat /mnt/models/weights && sleep 600"], **mount)
    await world.create(pod_json(main, initContainers=[loader], volumes=[{"name": "model", "emptyDir": {}}]))
    ready = await world.until("ready", is_ready)
    state = container_status(ready, "load")["state"]["terminated"]
    assert (state["exitCode"], state["reason"]) == (0, "Completed")
    assert state["containerID"].startswith("process://")
    assert condition(ready, "Initialized")["status"] == "True"
    assert '"model files in place"' in world.container_log(ready, "load")
    assert world.record(ready["metadata"]["uid"])["containers"]["load"]["process"] is None
    await eventually("the weights are read", lambda: _said(world, ready, "w"))


async def _said(world: World, pod: JsonObject, words: str) -> bool:
    return world.container_log(pod) == words


async def test_the_node_is_registered(world: World) -> None:
    async def registered() -> JsonObject | None:
        found = (await world.client.list(NODES)).items
        return found[0] if found and found[0].get("status") else None

    node = await eventually("the node is there", registered)
    assert node is not None
    assert node["metadata"]["name"] == "onebox"
    assert node["status"]["conditions"][0]["status"] == "True"
    assert int(node["status"]["capacity"]["cpu"]) > 0


async def test_environment_volumes_and_init_containers(world: World) -> None:
    await world.client.create(CONFIG_MAPS, config_map("settings", COLOR="blue"))
    secret = {"TOKEN": base64.b64encode(b"s3cret").decode()}
    await world.client.create(
        SECRETS,
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "default"}, "data": secret},
    )
    write = "import os, sys; open(sys.argv[1] + '/' + os.environ['STEP'], 'a').write(str(len(os.listdir(sys.argv[1]))))"
    shared = {"volumeMounts": [{"name": "shared", "mountPath": "/mnt/shared"}]}
    steps = [
        {**python(write, name, **shared), "env": [{"name": "STEP", "value": name}], "args": ["/mnt/shared"]}
        for name in ("one", "two")
    ]
    show = """
import os, sys
print(os.environ["COLOR"], os.environ["TOKEN"], os.environ["POD_IP"], os.environ["MODEL_DIR"] == sys.argv[1])
print(sorted((name, open(os.path.join(sys.argv[1], name)).read()) for name in os.listdir(sys.argv[1])))
print(open("/dev/null").read(), open(sys.argv[2] + "/COLOR").read())
"""
    main = python(
        show,
        args=["/mnt/shared", "/etc/settings"],
        env=[
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "TOKEN"}}},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "MODEL_DIR", "value": "/mnt/shared"},
        ],
        envFrom=[{"configMapRef": {"name": "settings"}}],
        volumeMounts=[*shared["volumeMounts"], {"name": "settings", "mountPath": "/etc/settings"}],
    )
    volumes = [{"name": "shared", "emptyDir": {}}, {"name": "settings", "configMap": {"name": "settings"}}]
    await world.create(pod_json(main, initContainers=steps, volumes=volumes, restartPolicy="Never"))
    done = await world.until("succeeded", lambda pod: pod.get("status", {}).get("phase") == "Succeeded")
    assert world.container_log(done) == "blue s3cret 127.0.0.1 True\n[('one', '1'), ('two', '2')]\n blue\n"
    assert [container_status(done, name)["ready"] for name in ("one", "two")] == [True, True]
    assert condition(done, "Ready")["reason"] == "PodCompleted"


async def test_a_crash_loop(world: World) -> None:
    code = "import sys; print('the model is broken'); sys.exit(3)"
    await world.create(pod_json(python(code, terminationMessagePolicy="FallbackToLogsOnError")))
    looping = await world.until(
        "it waits for its back-off",
        lambda pod: container_status(pod).get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff",
    )
    status = container_status(looping)
    assert status["restartCount"] == 1
    assert status["state"]["waiting"]["message"].startswith(
        "back-off 10s restarting failed container=main pod=pod_default("
    )
    last = status["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"], last["message"]) == (3, "Error", "the model is broken\n")
    assert looping["status"]["phase"] == "Running"
    assert world.container_log(looping, restarts=0) == world.container_log(looping, restarts=1)
    await eventually("an event tells of it", lambda: has_event(world, "BackOff"))


async def has_event(world: World, reason: str) -> bool:
    return reason in await reasons(world)


def waits_for_something(pod: JsonObject) -> bool:
    """Whether its container waits, and not only for its turn."""
    waiting = container_status(pod).get("state", {}).get("waiting")
    return waiting is not None and waiting["reason"] != "ContainerCreating"


async def test_an_image_without_a_command_waits_until_it_is_mapped(world: World) -> None:
    await world.create(pod_json(container(image="example.com/strange:1", command=[])))
    waiting = await world.until("it waits for something", waits_for_something)
    found = container_status(waiting)["state"]["waiting"]
    assert found["reason"] == "ErrImagePull"
    assert "ladle-system/onebox-images" in found["message"]
    assert await reasons(world) == {"Failed"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ladle-system"}}

    await world.client.create(NAMESPACES, namespace)
    images = "example.com/* = sleep 60"
    await world.client.create(CONFIG_MAPS, config_map("onebox-images", "ladle-system", images=images))
    await world.until("it runs", is_ready)


async def test_what_an_environment_refers_to_is_waited_for(world: World) -> None:
    main = container(command=["sleep", "60"], envFrom=[{"configMapRef": {"name": "late"}}])
    await world.create(pod_json(main))
    waiting = await world.until("it waits for something", waits_for_something)
    found = container_status(waiting)["state"]["waiting"]
    assert found == {"reason": "CreateContainerConfigError", "message": 'configmap "late" not found'}
    await world.client.create(CONFIG_MAPS, config_map("late", A="b"))
    ready = await world.until("it runs", is_ready)
    assert container_status(ready)["restartCount"] == 0


async def test_a_program_that_is_not_there(world: World) -> None:
    await world.create(pod_json(container(command=["no-such-program"]), restartPolicy="Never"))
    failed = await world.until("it failed", lambda pod: pod.get("status", {}).get("phase") == "Failed")
    ended = container_status(failed)["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert ended["message"] == 'exec: "no-such-program": executable file not found in $PATH'


async def test_readiness_comes_and_goes_without_a_restart(world: World) -> None:
    main = server()
    main["readinessProbe"] |= {"failureThreshold": 1}
    await world.create(pod_json(main))
    ready = await world.until("ready", is_ready)
    marker = world.home.node / "pods" / ready["metadata"]["uid"] / "containers" / "main" / "unready"
    marker.touch()
    unready = await world.until("not ready", lambda pod: not is_ready(pod))
    assert condition(unready, "Ready")["message"] == "containers with unready status: [main]"
    assert container_status(unready)["restartCount"] == 0
    marker.unlink()
    await world.until("ready again", is_ready)
    assert "Unhealthy" in await reasons(world)


async def test_a_failed_liveness_probe_restarts_the_container(world: World) -> None:
    command = ["sh", "-c", 'test "$WORD" = said && test ! -e sick']
    # A server that starts is well again.
    main = python(
        f"import contextlib, os\nwith contextlib.suppress(OSError): os.unlink('sick')\n{SERVER}", **HTTP, **READY
    )
    probe = {"exec": {"command": command}, "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 10}
    await world.create(pod_json({**main, "livenessProbe": probe, "env": [{"name": "WORD", "value": "said"}]}))
    ready = await world.until("ready", is_ready)
    folder = world.home.node / "pods" / ready["metadata"]["uid"] / "containers" / "main"
    (folder / "sick").touch()
    again = await world.until("restarted", lambda pod: container_status(pod).get("restartCount") == 1)
    assert container_status(again)["lastState"]["terminated"]["exitCode"] == 0
    await world.until("ready again", is_ready)
    assert {"Unhealthy", "Killing"} <= await reasons(world)


async def test_whatever_a_pod_has_started_ends_with_it(world: World) -> None:
    code = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for new_session in (False, True):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=new_session)
print("up", flush=True)
time.sleep(600)
"""
    await world.create(pod_json(python(code), terminationGracePeriodSeconds=1))
    ready = await world.until("ready", is_ready)
    wait_for("it is up", lambda: "up" in world.container_log(ready))
    assert len(world.pod_processes()) == 3
    await delete(world)
    await world.gone()
    await world.no_processes()


async def test_a_pod_that_is_deleted_by_force_ends_too(world: World) -> None:
    await world.create(pod_json(server(lifecycle={"preStop": {"exec": {"command": ["sleep", "600"]}}})))
    await world.until("ready", is_ready)
    await delete(world, grace_period_s=0)
    await world.gone(timeout_s=1)
    await world.no_processes()


async def test_a_hook_runs_before_sigterm(world: World) -> None:
    hook = {"preStop": {"exec": {"command": ["sh", "-c", 'echo "$POD_NAME" > said; sleep 0.2']}}}
    await world.create(pod_json(server(lifecycle=hook)))
    ready = await world.until("ready", is_ready)
    folder = world.home.node / "pods" / ready["metadata"]["uid"] / "containers" / "main"
    await delete(world)
    await asyncio.to_thread(
        wait_for, "the hook ran", lambda: (folder / "said").exists() and (folder / "said").read_text()
    )
    assert "terminated" not in world.container_log(ready)
    await world.gone()


async def test_a_pod_made_anew_under_the_same_name_is_another_pod(world: World) -> None:
    await world.create(pod_json(server()))
    first = await world.until("ready", is_ready)
    await delete(world, grace_period_s=0)
    await world.create(pod_json(server()))
    second = await world.until("ready", is_ready)
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    mine = world.process(second)
    wait_for("only the second runs", lambda: world.pod_processes() == [mine])


SLOW_SERVER = """
import http.server, os, signal, sys, threading, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            print("slow", flush=True)
            time.sleep(1.5)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"done")
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
def stop(*_):
    print("terminated", flush=True)
    threading.Thread(target=server.shutdown).start()
signal.signal(signal.SIGTERM, stop)
server.serve_forever()
"""


async def test_a_foreign_server_behind_a_queue_proxy_finishes_what_it_accepted(world: World) -> None:
    user, proxy = knative_containers(**python(SLOW_SERVER, "kserve-container"))
    user["ports"] = [{"containerPort": 8080, "name": "user-port"}]
    await world.create(pod_json(user, proxy, terminationGracePeriodSeconds=20))
    ready = await world.until("ready", is_ready)
    assert [container_status(ready, name)["ready"] for name in ("kserve-container", "queue-proxy")] == [True, True]
    assert await fetch(port(ready, 8012)) == "done"
    async with asyncio.TaskGroup() as group:
        request = group.create_task(fetch(port(ready, 8012), "/slow"))
        await asyncio.to_thread(
            wait_for, "it is under way", lambda: "slow" in world.container_log(ready, "kserve-container")
        )
        await delete(world)
        assert await request == "done"
    await world.gone()
    await world.no_processes()


async def test_many_pods_at_once(world: World) -> None:
    names = [f"pod-{number}" for number in range(30)]
    await asyncio.gather(*(world.create(pod_json(container(command=["sleep", "600"]), name=name)) for name in names))
    for name in names:
        await world.until("ready", is_ready, name=name)
    assert len(world.pod_processes()) == len(names)
    await asyncio.gather(*(delete(world, name) for name in names))
    for name in names:
        await world.gone(name)
    await world.no_processes()
