"""A real Envoy on loopback, and what drives it: the translation and its keeper, without an API server."""

from __future__ import annotations

import asyncio
import http.client
import re
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from controller.base.clock import Clock, SystemClock
from controller.base.json import JsonObject
from onebox.home import Home, OneboxSettings
from onebox.istio.admin import Admin
from onebox.istio.bootstrap import admin_socket, envoy_command, listener_ports, write_bootstrap
from onebox.istio.endpoint_files import EndpointFiles
from onebox.istio.files import ConfigFiles
from onebox.istio.keeper import GatewayKeeper
from onebox.istio.live import LiveConfig
from onebox.istio.publisher import Publisher
from onebox.istio.registry import Listener
from onebox.istio.translation import Translation
from tests.onebox.istio.objects import installed_gateways, local_gateway_service
from tests.ports import free_ports
from tests.waiting import eventually, wait_for

ENDPOINT_FILES = 32


@dataclass
class Envoy:
    """One home with its Envoy, which may be killed and started again."""

    home: Home
    settings: OneboxSettings
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.home.root / "envoy.log").open("ab") as log:
            self.process = subprocess.Popen(
                envoy_command(self.home, self.settings), stdout=log, stderr=log, cwd=self.home.root
            )
        wait_for("Envoy answers", self.answers, timeout_s=60)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.settings.local_gateway_port, timeout=2)
        try:
            connection.request("GET", "/", headers={"Host": "nobody.invalid"})
            return connection.getresponse().status > 0
        except OSError:
            return False
        finally:
            connection.close()

    def log(self) -> str:
        return (self.home.root / "envoy.log").read_text()


async def statistic(envoy: Envoy, name: str) -> int:
    """One of Envoy's numbers; 0 where it has not counted that."""
    connector = aiohttp.UnixConnector(path=str(admin_socket(envoy.home)))
    async with (
        aiohttp.ClientSession("http://envoy", connector=connector) as session,
        session.get("/stats", params={"filter": f"^{re.escape(name)}$"}) as response,
    ):
        return int((await response.text()).partition(": ")[2] or 0)


@contextmanager
def running_envoy(root: Path) -> Iterator[Envoy]:
    public, local = free_ports(2)
    home, settings = Home(root), OneboxSettings(gateway_port=public, local_gateway_port=local)
    home.write_settings(settings)
    write_bootstrap(home, settings)
    envoy = Envoy(home, settings)
    try:
        envoy.start()
        yield envoy
    finally:
        if envoy.process is not None:
            envoy.kill()


class Driver:
    """Feeds objects to a keeper as informers would."""

    def __init__(self, envoy: Envoy, keeper: GatewayKeeper, translation: Translation, live: LiveConfig) -> None:
        self.envoy = envoy
        self.keeper = keeper
        self.translation = translation
        self.live = live
        self._setters = {
            "virtual_service": translation.set_virtual_service,
            "gateway": translation.set_gateway,
            "rule": translation.set_rule,
            "service": translation.set_service,
            "endpoints": translation.set_endpoints,
        }

    def set(self, kind: str, *objects: JsonObject) -> None:
        for obj in objects:
            self._setters[kind]((obj["metadata"]["namespace"], obj["metadata"]["name"]), obj)
        self.keeper.wake()

    def drop(self, kind: str, name: str, namespace: str) -> None:
        self._setters[kind]((namespace, name), None)
        self.keeper.wake()

    async def set_and_wait(self, virtual_service: JsonObject) -> None:
        """Returns when Envoy routes by this VirtualService."""
        self.set("virtual_service", virtual_service)

        async def is_live() -> bool:
            return self.live.is_live(virtual_service)

        await eventually(f"{virtual_service['metadata']['name']} is live", is_live)


class FastClock(SystemClock):
    """Runs a hundred times as fast as the machine's."""

    def monotonic_s(self) -> float:
        return super().monotonic_s() * 100


@asynccontextmanager
async def driving(
    envoy: Envoy, *, endpoint_files: int = ENDPOINT_FILES, clock: Clock | None = None
) -> AsyncIterator[Driver]:
    """A keeper at work, with what every onebox has installed."""
    files = ConfigFiles(envoy.home.envoy)
    translation = Translation(listener_ports(envoy.settings), EndpointFiles(files.endpoints, endpoint_files))
    live, clock = LiveConfig(), clock or SystemClock()

    async def ready() -> None:
        return None

    async with Admin.open(admin_socket(envoy.home)) as admin:
        publisher = Publisher(files, admin, clock)
        keeper = GatewayKeeper(translation, publisher, files, live=live, clock=clock, sources_ready=ready)
        driver = Driver(envoy, keeper, translation, live)
        driver.set("gateway", *installed_gateways())
        driver.set("service", local_gateway_service())
        tasks = asyncio.gather(keeper.keep_endpoints(), keeper.keep_tables())
        try:
            yield driver
        finally:
            tasks.cancel()
            await asyncio.gather(tasks, return_exceptions=True)


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@asynccontextmanager
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        timeout=aiohttp.ClientTimeout(total=20),
        connector=aiohttp.TCPConnector(limit=64),
    ) as session:
        yield session


async def ask(
    session: aiohttp.ClientSession,
    envoy: Envoy,
    host: str,
    *,
    path: str = "/",
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    listener: Listener = Listener.PUBLIC,
) -> Answer:
    port = listener_ports(envoy.settings)[listener]
    sent = {"Host": host, **(headers or {})}
    async with session.request(
        method, f"http://127.0.0.1:{port}{path}", headers=sent, allow_redirects=False
    ) as response:
        lowered = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, lowered, await response.read())
