"""Requests through a real Envoy while the world changes under it."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from onebox.istio.files import render_routes
from onebox.istio.registry import Listener
from onebox.istio.wire_tables import route_table
from tests.onebox.istio.envoy import Driver, Envoy, FastClock, ask, client, driving, free_ports, statistic
from tests.onebox.istio.objects import (
    LOCAL_GATEWAY_HOST,
    endpoints,
    knative_virtual_service,
    kserve_virtual_service,
    revision_service,
    route_to,
    service,
    virtual_service,
)
from tests.onebox.istio.servers import running_backends
from tests.waiting import eventually

FILES_OR_NONE = pytest.mark.parametrize("endpoint_files", [32, 0], ids=["in files", "in the table"])
VANISHING_RETRIES = "cluster.outbound|80||vanishing.golden.svc.cluster.local.upstream_rq_retry"


def simple(name: str, *routes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return virtual_service(name, {"hosts": [f"{name}.example.com"], "http": list(routes)}, **fields)


async def install_service(driver: Driver, name: str, *ports: int) -> None:
    driver.set("service", revision_service(name))
    driver.set("endpoints", endpoints(name, ports))


# What a pod sees.


async def test_a_pod_sees_what_two_hops_would_show_it(envoy: Envoy) -> None:
    async with running_backends("pod") as backends, driving(envoy) as driver, client() as session:
        await install_service(driver, "m-predictor-00001", backends["pod"].port)
        driver.set("virtual_service", knative_virtual_service("m-predictor", {"m-predictor-00001": 100}))
        await driver.set_and_wait(kserve_virtual_service("m"))
        for host, listener in (
            ("m.golden.example.com", Listener.PUBLIC),
            ("m.golden.example.com:8080", Listener.PUBLIC),
            ("m.golden.svc.cluster.local", Listener.LOCAL),
        ):
            answer = await ask(session, envoy, host, path="/v1/models/m?x=1", listener=listener)
            saw = json.loads(answer.body)
            assert (saw["path"], saw["host"]) == ("/v1/models/m?x=1", "m-predictor.golden.svc.cluster.local")
            assert saw["headers"]["kserve-isvc-name"] == "m"
            assert saw["headers"]["knative-serving-revision"] == "m-predictor-00001"
            assert "," not in saw["headers"]["x-forwarded-for"], "the request took more than one hop"
        probe = await ask(session, envoy, "m.golden.example.com", headers={"K-Network-Hash": "override"})
        assert json.loads(probe.body)["headers"]["k-network-hash"] == "hash-of-it"


async def test_names_from_within_are_not_known_outside(envoy: Envoy) -> None:
    async with running_backends("pod") as backends, driving(envoy) as driver, client() as session:
        await install_service(driver, "w-00001", backends["pod"].port)
        await driver.set_and_wait(knative_virtual_service("w", {"w-00001": 100}))
        assert (await ask(session, envoy, "w.golden.example.com")).status == 200
        assert (await ask(session, envoy, "w.golden.svc.cluster.local")).status == 404
        assert (await ask(session, envoy, "w.golden.svc.cluster.local", listener=Listener.LOCAL)).status == 200


async def test_a_hop_that_does_not_collapse_is_taken(envoy: Envoy) -> None:
    async with running_backends("pod") as backends, driving(envoy) as driver, client() as session:
        await install_service(driver, "t", backends["pod"].port)
        inner = {
            "hosts": ["inner.golden.svc.cluster.local"],
            "http": [route_to("t", match=[{"uri": {"prefix": "/v1"}}])],
        }
        driver.set(
            "virtual_service", virtual_service("inner", inner, gateways=["knative-serving/knative-local-gateway"])
        )
        outer = {"destination": {"host": LOCAL_GATEWAY_HOST, "port": {"number": 80}}}
        headers = {"request": {"set": {"Host": "inner.golden.svc.cluster.local", "X-Outer": "yes"}}}
        await driver.set_and_wait(simple("twohops", {"route": [outer], "headers": headers}))
        saw = json.loads((await ask(session, envoy, "twohops.example.com", path="/v1/x")).body)
        assert saw["headers"]["x-outer"] == "yes"
        assert saw["headers"]["x-forwarded-for"].count(",") == 1
        assert (await ask(session, envoy, "twohops.example.com", path="/v2")).status == 404


# Endpoints come and go.


@FILES_OR_NONE
async def test_no_request_fails_while_endpoints_change(envoy: Envoy, endpoint_files: int) -> None:
    async with AsyncExitStack() as stack:
        backends = await stack.enter_async_context(running_backends("a", "b"))
        driver = await stack.enter_async_context(driving(envoy, endpoint_files=endpoint_files))
        session = await stack.enter_async_context(client())
        await install_service(driver, "moving", backends["a"].port)
        await driver.set_and_wait(simple("moving", route_to("moving", retries={})))
        statuses, stop = list[int](), asyncio.Event()

        async def hammer() -> None:
            while not stop.is_set():
                statuses.append((await ask(session, envoy, "moving.example.com")).status)

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(hammer())
            for name in "ba" * 10:
                driver.set("endpoints", endpoints("moving", [backends[name].port]))
                await eventually(f"{name} answers", functools.partial(answers_from, session, envoy, name))
            stop.set()
        assert len(statuses) > 50
        assert set(statuses) == {200}


async def answers_from(session: aiohttp.ClientSession, envoy: Envoy, name: str) -> bool:
    return (await ask(session, envoy, "moving.example.com")).headers["x-from"] == name


@FILES_OR_NONE
async def test_a_request_to_a_vanished_pod_is_answered_by_the_next(envoy: Envoy, endpoint_files: int) -> None:
    """Nobody listens where the pod was; until its endpoint is taken away, requests are tried again."""
    (vanished,) = free_ports(1)
    async with AsyncExitStack() as stack:
        backends = await stack.enter_async_context(running_backends("next"))
        driver = await stack.enter_async_context(driving(envoy, endpoint_files=endpoint_files))
        session = await stack.enter_async_context(client())
        await install_service(driver, "vanishing", vanished)
        await driver.set_and_wait(simple("vanishing", route_to("vanishing", retries={})))
        before = await statistic(envoy, VANISHING_RETRIES)
        async with asyncio.TaskGroup() as group:
            requests = [
                group.create_task(ask(session, envoy, "vanishing.example.com", method="POST")) for _ in range(20)
            ]
            await eventually("each was tried several times", lambda: _counted_over(envoy, before + 20 * 8))
            driver.set("endpoints", endpoints("vanishing", [backends["next"].port]))
        assert [request.result().status for request in requests] == [200] * 20


async def _counted_over(envoy: Envoy, count: int) -> bool:
    return await statistic(envoy, VANISHING_RETRIES) >= count


async def test_a_service_that_is_no_revision_keeps_its_retries_off(envoy: Envoy) -> None:
    (closed,) = free_ports(1)
    async with driving(envoy) as driver, client() as session:
        driver.set("service", service("plain"))
        driver.set("endpoints", endpoints("plain", [closed]))
        await driver.set_and_wait(simple("plain", route_to("plain", retries={})))
        answer = await ask(session, envoy, "plain.example.com")
        assert answer.status == 503
        assert b"connect" in answer.body


async def test_routes_and_clusters_go_and_leave_no_file(envoy: Envoy) -> None:
    async with running_backends("pod") as backends, driving(envoy) as driver, client() as session:
        await install_service(driver, "going", backends["pod"].port)
        await driver.set_and_wait(simple("going", route_to("going")))
        file = envoy.home.envoy / "eds" / "outbound_80__going.golden.svc.cluster.local.json"
        assert file.exists()
        driver.drop("virtual_service", "going", "golden")

        async def is_gone() -> bool:
            return (await ask(session, envoy, "going.example.com")).status == 404 and not file.exists()

        await eventually("route and file are gone", is_gone)


# When a generation is in force.


async def test_live_means_that_requests_are_routed(envoy: Envoy) -> None:
    async with running_backends("pod") as backends, driving(envoy) as driver, client() as session:
        wanted = simple("early", route_to("early"))
        driver.set("virtual_service", wanted)
        await driver.set_and_wait(simple("marker-early", {"directResponse": {"status": 200}}))
        assert not driver.live.is_live(wanted), "its service is not there"
        assert (await ask(session, envoy, "early.example.com")).status == 503
        driver.set("service", service("early"))
        await driver.set_and_wait(simple("marker-early", {"directResponse": {"status": 201}}, generation=2))
        assert not driver.live.is_live(wanted), "nobody has said where its pods are"
        heard = list[tuple[str, str]]()
        driver.live.subscribe(lambda namespace, name: heard.append((namespace, name)))
        driver.set("endpoints", endpoints("early", [backends["pod"].port]))
        await driver.set_and_wait(wanted)
        assert (await ask(session, envoy, "early.example.com")).status == 200
        assert heard == [("golden", "early")]
        newer = simple("early", {"directResponse": {"status": 204}}, generation=2)
        assert not driver.live.is_live(newer)
        await driver.set_and_wait(newer)
        assert (await ask(session, envoy, "early.example.com")).status == 204


async def test_a_burst_comes_into_force_and_one_change_among_many_changes_nothing_else(envoy: Envoy) -> None:
    async with driving(envoy) as driver, client() as session:
        many = [simple(f"burst-{number}", {"directResponse": {"status": 200}}) for number in range(300)]
        driver.set("virtual_service", *many)
        await driver.set_and_wait(many[-1])
        assert all(driver.live.is_live(found) for found in many)
        changed = simple("burst-7", {"directResponse": {"status": 207}}, generation=2)
        await driver.set_and_wait(changed)
        assert (await ask(session, envoy, "burst-7.example.com")).status == 207
        assert (await ask(session, envoy, "burst-8.example.com")).status == 200


# What Envoy refuses.


def refused(name: str, generation: int = 1) -> dict[str, Any]:
    """Passes the translation; Envoy knows no such command in a header's value."""
    headers = {"request": {"set": {"x": "%NOSUCH%"}}}
    return simple(name, route_to("a", headers=headers), generation=generation)


async def test_what_envoy_refuses_stays_out_and_everything_else_comes_in(envoy: Envoy) -> None:
    async with driving(envoy) as driver, client() as session:
        good = [simple(f"good-{number}", {"directResponse": {"status": 200}}) for number in range(20)]
        bad = [refused(f"bad-{number}") for number in range(2)]
        driver.set("virtual_service", *good, *bad)
        for found in good:
            await driver.set_and_wait(found)

        async def is_told() -> bool:
            return all(driver.live.refusal_of(found["metadata"]["uid"], 1) for found in bad)

        await eventually("refusals are told", is_told)
        message = driver.live.refusal_of(bad[0]["metadata"]["uid"], 1)
        assert "NOSUCH" in message
        assert not driver.live.is_live(bad[0])
        assert (await ask(session, envoy, "good-3.example.com")).status == 200
        assert (await ask(session, envoy, "bad-0.example.com")).status == 404
        finding = driver.keeper._events.get_nowait()
        assert (finding.reason, finding.message) == ("RefusedByEnvoy", message)


async def test_what_no_field_of_envoys_can_hold_stays_out_as_well(envoy: Envoy) -> None:
    async with driving(envoy) as driver, client() as session:
        body = {"status": 200, "body": {"bytes": "no base64!"}}
        driver.set("virtual_service", simple("unencodable", {"directResponse": body}))
        await driver.set_and_wait(simple("beside", {"directResponse": {"status": 202}}))

        async def is_told() -> bool:
            return bool(driver.live.refusal_of("uid-golden-unencodable", 1))

        await eventually("the refusal is told", is_told)
        assert (await ask(session, envoy, "unencodable.example.com")).status == 404
        assert (await ask(session, envoy, "beside.example.com")).status == 202
        assert "bytes" in driver.live.refusal_of("uid-golden-unencodable", 1)


async def test_what_was_in_force_before_a_refusal_stays_until_it_is_mended(envoy: Envoy) -> None:
    async with driving(envoy) as driver, client() as session:
        await driver.set_and_wait(simple("mended", {"directResponse": {"status": 200}}))
        driver.set("virtual_service", refused("mended", generation=2))

        async def is_told() -> str:
            return driver.live.refusal_of("uid-golden-mended", 2)

        await eventually("the refusal is told", is_told)
        assert (await ask(session, envoy, "mended.example.com")).status == 200
        assert driver.live.generation_of("uid-golden-mended") == 1
        await driver.set_and_wait(simple("mended", {"directResponse": {"status": 201}}, generation=3))
        assert (await ask(session, envoy, "mended.example.com")).status == 201
        assert driver.live.refusal_of("uid-golden-mended", 2) == ""


async def test_a_cluster_that_envoy_refuses_does_not_stop_the_others(envoy: Envoy) -> None:
    async with running_backends("pod") as backends, driving(envoy) as driver, client() as session:
        for name in ("broken", "sound"):
            await install_service(driver, name, backends["pod"].port)
        # Envoy wants a prime table size of at most 5,000,011.
        balancer = {"consistentHash": {"useSourceIp": True, "maglev": {"tableSize": 5_000_012}}}
        rule = {"host": "broken.golden.svc.cluster.local", "trafficPolicy": {"loadBalancer": balancer}}
        driver.set("rule", {"metadata": {"name": "broken", "namespace": "golden"}, "spec": rule})
        driver.set("virtual_service", simple("broken", route_to("broken")))
        await driver.set_and_wait(simple("sound", route_to("sound")))
        assert (await ask(session, envoy, "sound.example.com")).status == 200
        assert "broken" in driver.live.refusal_of("uid-golden-broken", 1)


# Protocols.


async def test_websockets_pass(envoy: Envoy) -> None:
    async def echo(request: web.Request) -> web.WebSocketResponse:
        opened = web.WebSocketResponse()
        await opened.prepare(request)
        await opened.send_str(await opened.receive_str())
        await opened.close()
        return opened

    app = web.Application()
    app.router.add_get("/ws", echo)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    async with driving(envoy) as driver, aiohttp.ClientSession() as session:
        await install_service(driver, "sockets", port)
        await driver.set_and_wait(simple("sockets", route_to("sockets")))
        address = f"http://127.0.0.1:{envoy.settings.gateway_port}/ws"
        async with session.ws_connect(address, headers={"Host": "sockets.example.com"}) as opened:
            await opened.send_str("hello")
            assert await opened.receive_str(timeout=30) == "hello"
    await runner.cleanup()


def test_the_port_of_http_1_takes_http_2_as_well(envoy: Envoy) -> None:
    settings_frame = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    with socket.create_connection(("127.0.0.1", envoy.settings.gateway_port), timeout=5) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings_frame)
        assert connection.recv(9)[3] == 4, "the answer to the preface is a SETTINGS frame"


# Crashes and restarts.


async def test_a_restarted_translation_changes_nothing(envoy: Envoy) -> None:
    async with running_backends("pod") as backends:

        async def bring_up(driver: Driver) -> None:
            await install_service(driver, "again", backends["pod"].port)
            await driver.set_and_wait(simple("again", route_to("again")))

        async with driving(envoy) as driver:
            await bring_up(driver)
        before = written(envoy.home.envoy)
        async with driving(envoy) as driver:
            await bring_up(driver)
        assert written(envoy.home.envoy) == before


def written(directory: Path) -> dict[str, tuple[int, int]]:
    """When each file was last replaced, and by which."""
    stats = {str(path): path.stat() for end in ("json", "pb") for path in directory.rglob(f"*.{end}")}
    return {name: (stat.st_mtime_ns, stat.st_ino) for name, stat in stats.items()}


async def test_a_killed_envoy_comes_back_with_its_tables_and_gets_what_it_missed(envoy: Envoy) -> None:
    async with running_backends("pod") as backends, driving(envoy) as driver, client() as session:
        await install_service(driver, "kept", backends["pod"].port)
        await driver.set_and_wait(simple("kept", route_to("kept")))
        envoy.kill()
        missed = simple("missed", {"directResponse": {"status": 202}})
        driver.set("virtual_service", missed)
        envoy.start()
        assert (await ask(session, envoy, "kept.example.com")).status == 200
        await driver.set_and_wait(missed)
        assert (await ask(session, envoy, "missed.example.com")).status == 202


async def test_a_table_that_envoy_does_not_have_is_written_again(envoy: Envoy) -> None:
    async with driving(envoy) as driver:
        await driver.set_and_wait(simple("audited", {"directResponse": {"status": 202}}))
        publisher = driver.keeper._publisher
        routes = envoy.home.envoy / "rds-public.pb"
        ours = routes.read_bytes()
        version = orjson.loads(routes.with_suffix(".json").read_bytes())["version_info"].encode()
        inode = routes.stat().st_ino
        await publisher.audit()
        assert routes.stat().st_ino == inode, "there is nothing to mend"
        other = routes.with_suffix(".new")
        other.write_bytes(ours.replace(version, version[::-1]))
        os.replace(other, routes)

        async def is_mended() -> bool:
            await publisher.audit()
            return routes.read_bytes() == ours

        await eventually("the table is mended", is_mended)


async def test_what_nobody_knows_anything_about_is_replaced(envoy: Envoy) -> None:
    """A crash can leave a table that Envoy refused; there may be nothing to serve, and it has to go all the same."""
    routes = envoy.home.envoy / "rds-public.pb"
    empty = route_table(Listener.PUBLIC).render(render_routes(Listener.PUBLIC, ())[0], ())
    other = routes.with_suffix(".new")
    other.write_bytes(b"no table")
    os.replace(other, routes)
    async with driving(envoy):

        async def is_empty() -> bool:
            return routes.read_bytes() == empty

        await eventually("the table is ours again", is_empty)


async def test_endpoint_files_are_given_up_where_envoy_stays_away(envoy: Envoy) -> None:
    """It may be unable to start with them: Linux limits how many files a user's processes watch."""
    async with running_backends("pod") as backends, driving(envoy, clock=FastClock()) as driver, client() as session:
        await install_service(driver, "carried", backends["pod"].port)
        await driver.set_and_wait(simple("carried", route_to("carried")))
        tables = envoy.home.envoy / "cds.json"
        assert b'"type":"EDS"' in tables.read_bytes()
        envoy.kill()
        driver.set("virtual_service", simple("carried", route_to("carried", timeout="9s"), generation=2))

        async def are_given_up() -> bool:
            return b'"type":"EDS"' not in tables.read_bytes()

        await eventually("no cluster needs a file", are_given_up)
        envoy.start()
        assert (await ask(session, envoy, "carried.example.com")).status == 200
        await driver.set_and_wait(simple("carried", {"directResponse": {"status": 201}}, generation=3))
        assert os.listdir(envoy.home.envoy / "eds") == []
