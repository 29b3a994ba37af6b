"""The API server as a real process in a home of its own: the test server of every integration test.

    async with open_api(tmp_path) as api:
        await api.client.create(CONFIG_MAPS, {...})

or the fixtures `api` (a server for each test) and `shared_api` (one for a module, emptied after each test), by importing
them in a conftest.py, `api_of_module` included.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from controller.base.json import JsonObject
from controller.kube.client import KubeClient
from controller.kube.resources import CRDS, KNOWN, NAMESPACES, ResourceType
from onebox.apiserver.pki import ensure_credentials
from onebox.home import Home, OneboxSettings
from tests.ports import free_port
from tests.waiting import eventually

_START_S = 30.0
"""How long a start may take on a machine that is busy with other tests; alone it takes under a second."""
_STOP_S = 15.0
_BOOT_NAMESPACES = ("default", "kube-system", "kube-public")


@dataclass(slots=True)
class ApiProcess:
    """A running API server; `start`, `stop` and `kill` for tests of exactly that."""

    home: Home
    settings: OneboxSettings
    client: KubeClient = field(init=False)
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.settings.api_port}"

    @property
    def kubeconfig(self) -> Path:
        return self.home.kubeconfig

    async def start(self) -> None:
        """Starts the process and returns once it is ready."""
        self.process = self._spawn()
        await eventually("the API server is ready", self._is_ready_or_dead, timeout_s=_START_S)
        assert self.process.poll() is None, f"the API server did not start:\n{self.log()}"

    async def stop(self) -> int:
        """Ends the process gracefully; returns its exit code."""
        assert self.process is not None
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, _STOP_S)

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(_STOP_S)

    def log(self) -> str:
        """What the server wrote so far."""
        return (self.home.logs / "apiserver.log").read_text()

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.home.logs.mkdir(parents=True, exist_ok=True)
        with (self.home.logs / "apiserver.log").open("ab") as output:
            command = [sys.executable, "-m", "onebox.apiserver", "--home", str(self.home.root)]
            return subprocess.Popen(command, stdout=output, stderr=output)

    async def _is_ready_or_dead(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None or await self._is_ready()

    async def _is_ready(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.home.pki / "ca.crt"))
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.settings.api_port, ssl=context)
        except (ConnectionError, ssl.SSLError):
            return False
        try:
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return b" 200 " in await reader.readline()
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


def prepare_api(root: Path, settings: OneboxSettings | None = None) -> ApiProcess:
    """An API server with its home at `root`, ready to be started."""
    chosen = settings or OneboxSettings(api_port=free_port())
    home = Home(root)
    home.write_settings(chosen)
    ensure_credentials(home, chosen)
    return ApiProcess(home, chosen)


@asynccontextmanager
async def open_api(root: Path, settings: OneboxSettings | None = None) -> AsyncIterator[ApiProcess]:
    """A running API server with its home at `root`, and a client of it as the user `admin`."""
    api = prepare_api(root, settings)
    async with KubeClient.open(api.kubeconfig, user_agent="test") as api.client:
        await api.start()
        try:
            yield api
        finally:
            if api.process is not None and api.process.poll() is None:
                await api.stop()


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiProcess]:
    """One API server for one test, which may stop and kill it."""
    async with open_api(tmp_path / "home") as running:
        yield running


@pytest.fixture(scope="module")
def api_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """One API server for a module; tests use it through `shared_api`."""
    api = prepare_api(tmp_path_factory.mktemp("api") / "home")
    asyncio.run(api.start())
    yield api
    asyncio.run(api.stop())


@pytest.fixture
async def shared_api(api_of_module: ApiProcess) -> AsyncIterator[ApiProcess]:
    """The module's API server, wiped after the test: a second less for each test that does not touch the process."""
    async with KubeClient.open(api_of_module.kubeconfig, user_agent="test") as api_of_module.client:
        yield api_of_module
        await wipe(api_of_module)


async def wipe(api: ApiProcess) -> None:
    """Deletes what a test made, so that the next one can use the same server: whatever is not there after a boot."""
    for resource in sorted(KNOWN, key=lambda resource: not resource.namespaced):
        if resource == CRDS:
            continue
        for item in (await api.client.list(resource)).items:
            await _remove(api.client, resource, item)


async def _remove(client: KubeClient, resource: ResourceType, item: JsonObject) -> None:
    name, namespace = item["metadata"]["name"], item["metadata"].get("namespace")
    if resource == NAMESPACES and name in _BOOT_NAMESPACES:
        return
    if item["metadata"].get("finalizers"):
        await client.patch(resource, name, namespace, {"metadata": {"finalizers": None}})
    await client.delete(resource, name, namespace, grace_period_s=0)
    if resource == NAMESPACES:
        await client.replace(NAMESPACES, {**item, "metadata": {"name": name}, "spec": {}}, subresource="finalize")
