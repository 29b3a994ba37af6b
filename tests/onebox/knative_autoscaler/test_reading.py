"""What the autoscaler reads of pods, Envoy, Revisions: at the edge, before it is a value."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.base.errors import TransientError
from onebox.home import Home
from onebox.istio.bootstrap import admin_socket
from onebox.knative.autoscaler.path import EnvoyPath, proxied_clusters
from onebox.knative.autoscaler.revision import parse_revision
from onebox.knative.autoscaler.scrape import PodStat, RevisionLoad, Scraper, sample_size, total_load
from onebox.knative.endpoints import Address
from tests.onebox.fake_pod import fake_pod
from tests.onebox.istio.envoy import driving, running_envoy
from tests.onebox.istio.objects import NAMESPACE, endpoints, knative_virtual_service, revision_service
from tests.onebox.knative_autoscaler.conftest import fake_gateway
from tests.waiting import eventually

ACTIVATOR = Address("127.0.0.1", 8012)


@pytest.mark.parametrize(
    ("pods", "sample"), [(0, 0), (3, 3), (4, 4), (5, 4), (10, 7), (20, 9), (50, 12), (100, 14), (1000, 16)]
)
def test_the_sample_grows_slower_than_the_pods(pods: int, sample: int) -> None:
    assert sample_size(pods) == sample


def stat(concurrency: float, proxied: float = 0.0) -> PodStat:
    return PodStat(
        average_concurrency=concurrency,
        average_proxied_concurrency=proxied,
        request_count=concurrency * 10,
        proxied_request_count=proxied * 10,
    )


def test_those_who_answer_speak_for_all_if_they_are_enough() -> None:
    assert total_load([stat(3, 1), stat(5)], 2) == RevisionLoad(concurrency=7, rps=70)
    assert total_load([stat(4), stat(4), stat(4), stat(4), None], 5) == RevisionLoad(concurrency=20, rps=200)
    assert total_load([stat(4), None], 2) is None
    assert total_load([], 0) is None


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20))
def test_the_load_of_all_is_their_sum(loads: list[float]) -> None:
    load = total_load([stat(value) for value in loads], len(loads))
    assert load is not None
    assert load.concurrency == pytest.approx(sum(loads))


@asynccontextmanager
async def says(answer: bytes) -> AsyncIterator[Address]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nno json!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b" " * 5000,
    ],
)
async def test_a_pod_that_tells_no_load_tells_none(answer: bytes) -> None:
    scraper = Scraper()
    async with says(answer) as address:
        assert await scraper.scrape(address) is None
    assert await scraper.scrape(address) is None  # Nobody listens any more.
    scraper.close()


async def test_a_pods_load_is_read_over_one_connection_that_is_made_again() -> None:
    scraper = Scraper()
    async with fake_pod(concurrency=2.5, proxied=1.0) as pod:
        address = Address("127.0.0.1", pod.ports.stats)
        for _ in range(3):
            read = await scraper.scrape(address)
            assert read == PodStat(
                average_concurrency=2.5, average_proxied_concurrency=1, request_count=2.5, proxied_request_count=1
            )
        scraper.keep([])
        assert await scraper.scrape(address) is not None
    scraper.close()


def clusters(*ports: tuple[int, ...]) -> bytes:
    def host(port: int) -> dict[str, Any]:
        return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}

    return orjson.dumps({"cluster_statuses": [{"host_statuses": [host(port) for port in one]} for one in ports]})


@pytest.mark.parametrize(
    ("answer", "proxied"),
    [
        (clusters((8012,)), True),
        (clusters((8012,), (8012,)), True),
        (clusters((8012, 20001)), False),
        (clusters((8012,), (20001,)), False),
        (clusters(()), False),
        (clusters(), True),
        (b"{}", True),
    ],
)
def test_requests_go_to_the_activator_if_every_host_is_it(answer: bytes, proxied: bool) -> None:
    assert proxied_clusters(answer, ACTIVATOR) is proxied


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"cluster_statuses":[{"host_statuses":[{}]}]}', b"not found"])
def test_another_document_is_no_answer(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        proxied_clusters(answer, ACTIVATOR)


async def test_the_gateway_is_asked_about_one_revision_by_its_whole_name(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    async with fake_gateway(home) as gateway:
        path = EnvoyPath(admin_socket(home), Address("127.0.0.1", gateway.port))
        gateway.hosts = {"outbound|80||r-1.default.svc.cluster.local": [gateway.port]}
        assert await path.is_proxied("default", "r-1")
        assert gateway.asked == [r"[|]r\-1\.default\.svc\.cluster\.local$"]
        gateway.activator_answers = False
        assert not await path.is_proxied("default", "r-1")
    with pytest.raises(TransientError):
        await path.is_proxied("default", "r-1")


async def test_envoy_itself_says_where_requests_go(tmp_path: Path) -> None:
    async with fake_gateway(Home(tmp_path / "activator")) as activator:
        with running_envoy(tmp_path / "home") as envoy:
            async with driving(envoy) as driver:
                path = EnvoyPath(admin_socket(envoy.home), Address("127.0.0.1", activator.port))
                driver.set("service", revision_service("r-1"), revision_service("r-10"))
                driver.set("endpoints", endpoints("r-1", [20001]), endpoints("r-10", [activator.port]))
                await driver.set_and_wait(knative_virtual_service("r", {"r-1": 50, "r-10": 50}))

                async def is_proxied(revision: str) -> bool:
                    return await path.is_proxied(NAMESPACE, revision)

                assert [await is_proxied(name) for name in ("r-1", "r-10", "no-route")] == [False, True, True]
                driver.set("endpoints", endpoints("r-1", [activator.port]))
                await eventually("the change is in force", lambda: is_proxied("r-1"))


def revision(routing: str = "active", **conditions: str) -> dict[str, Any]:
    return {
        "metadata": {"uid": "u", "labels": {"serving.knative.dev/routingState": routing}, "annotations": {"a": "b"}},
        "spec": {"containerConcurrency": 3},
        "status": {"conditions": [{"type": name, "status": status} for name, status in conditions.items()]},
    }


def deployment(replicas: int | None, ready: int = 0) -> dict[str, Any]:
    return {"spec": {} if replicas is None else {"replicas": replicas}, "status": {"readyReplicas": ready}}


def test_what_scaling_reads_of_a_revision() -> None:
    view = parse_revision(revision(ResourcesAvailable="True"), deployment(None))
    assert (view.uid, view.annotations, view.container_concurrency) == ("u", {"a": "b"}, 3)
    assert (view.reachable, view.initialized, view.replicas) == (True, True, 1)
    assert not parse_revision(revision(ResourcesAvailable="Unknown"), deployment(0)).initialized


@pytest.mark.parametrize(
    ("routing", "condition", "replicas", "ready", "reachable"),
    [
        ("reserve", "True", 1, 1, False),
        ("pending", "True", 1, 1, True),
        ("active", "False", 1, 0, False),
        ("active", "False", 1, 1, True),
        ("active", "False", 0, 0, True),
        ("active", "Unknown", 1, 0, True),
    ],
)
def test_a_revision_without_a_route_or_broken_is_not_reachable(
    routing: str, condition: str, replicas: int, ready: int, reachable: bool
) -> None:
    view = parse_revision(revision(routing, ContainerHealthy=condition), deployment(replicas, ready))
    assert view.reachable is reachable


async def test_a_scrape_that_takes_too_long_is_given_up() -> None:
    async with fake_pod() as pod:
        scraper = Scraper()
        silent = asyncio.Event()

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await silent.wait()
            writer.close()

        server = await asyncio.start_server(hang, "127.0.0.1", 0)
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        async with asyncio.TaskGroup() as group:
            scrape = group.create_task(scraper.scrape(address))

            async def given_up() -> bool:
                return scrape.done()

            await eventually("it is given up", given_up)
            assert scrape.result() is None
            silent.set()
        server.close()
        assert pod.scrapes == 0
        scraper.close()
