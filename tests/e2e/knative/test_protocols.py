"""F11, F22: the version of HTTP that a container hears, and WebSockets that outlive their service."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.e2e.knative.asking import ask
from tests.e2e.knative.serving import Serving, container, service, template
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long]

DEADLINE_S = 60
THROUGH_THE_ACTIVATOR = {"autoscaling.knative.dev/target-burst-capacity": "-1"}


@pytest.mark.parametrize(("port", "version"), [("h2c", "HTTP/2.0"), ("http1", "HTTP/1.1"), ("", "HTTP/1.1")])
def test_the_name_of_its_port_says_what_a_container_hears(serving: Serving, port: str, version: str) -> None:
    """Whatever the client speaks, which is HTTP/1.1 here."""
    name = f"protocol-{port or 'none'}"
    listed = [{"containerPort": 8080, **({"name": port} if port else {})}]
    url = serving.run(service(name, template(container("protocols", ports=listed))))
    answer = ask(url)
    assert (answer.status, answer.body) == (200, version)
    serving.delete("service", name)


@pytest.mark.parametrize("path", [{}, THROUGH_THE_ACTIVATOR], ids=["direct", "through-the-activator"])
def test_a_websocket_outlives_its_service(serving: Serving, path: Mapping[str, str]) -> None:
    name = "socket-activated" if path else "socket"
    address = urlsplit(serving.run(service(name, template(container("echo"), annotations=path))))
    revision = f"{name}-00001"

    async def talk() -> int | None:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(DEADLINE_S)) as session,
            session.ws_connect(f"http://127.0.0.1:{address.port}/", headers={"Host": address.netloc}) as socket,
        ):
            await _echo(socket, "before")
            serving.delete("service", name)
            wait_for("its pods are being deleted", lambda: not serving.pods(revision), timeout_s=DEADLINE_S)
            await _echo(socket, "after")
            await socket.close()
            return socket.close_code

    assert asyncio.run(talk()) == aiohttp.WSCloseCode.OK
    wait_for(
        "its pod is gone",
        lambda: not [pod for pod, _ in serving.box.containers() if pod.startswith(revision)],
        timeout_s=DEADLINE_S,
    )


async def _echo(socket: aiohttp.ClientWebSocketResponse, word: str) -> None:
    await socket.send_str(word)
    assert await socket.receive_str(timeout=DEADLINE_S) == word
