"""The API server as a real process in a home of its own: the test server of every integration test.

    async with open_api(tmp_path) as api:
        await api.client.create(CONFIG_MAPS, {...})

or the fixture `api`, by `from tests.onebox_api import api  # noqa: F401` in a conftest.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from controller.base.clock import SystemClock
from controller.kube.client import KubeClient
from onebox.apiserver.pki import ensure_credentials
from onebox.home import Home, OneboxSettings

_START_S = 30.0
"""How long a start may take on a machine that is busy with other tests; alone it takes under a second."""
_STOP_S = 15.0
_POLL_S = 0.02


@dataclass(slots=True)
class ApiProcess:
    """A running API server; `start`, `stop` and `kill` for tests of exactly that."""

    home: Home
    settings: OneboxSettings
    client: KubeClient
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
        clock = SystemClock()
        deadline_s = clock.monotonic_s() + _START_S
        while not await self._is_ready():
            if self.process.poll() is not None or clock.monotonic_s() > deadline_s:
                raise AssertionError(f"the API server did not start:\n{self.log()}")
            await asyncio.sleep(_POLL_S)

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


def free_port() -> int:
    """A port of loopback that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def open_api(root: Path, settings: OneboxSettings | None = None) -> AsyncIterator[ApiProcess]:
    """A running API server with its home at `root`, and a client of it as the user `admin`."""
    chosen = settings or OneboxSettings(api_port=free_port())
    home = Home(root)
    home.write_settings(chosen)
    ensure_credentials(home, chosen)
    async with KubeClient.open(home.kubeconfig, user_agent="test") as client:
        api = ApiProcess(home, chosen, client)
        await api.start()
        try:
            yield api
        finally:
            if api.process is not None and api.process.poll() is None:
                await api.stop()


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiProcess]:
    """One API server for one test."""
    async with open_api(tmp_path / "home") as running:
        yield running
