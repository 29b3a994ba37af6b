"""A real API server and a real node process, and what a test wants to see of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from controller.base.json import JsonObject
from controller.kube.client import KubeClient
from controller.kube.errors import NotFound
from controller.kube.resources import PODS
from onebox.home import Home
from onebox.node.images import TEMPLATES_VARIABLE
from onebox.node.process_table import scan
from onebox.node.reap import kill_all
from onebox.node.template import TEMPLATE_VARIABLE
from onebox.processes import COMPONENT_VARIABLE, HOME_VARIABLE, ProcessId
from tests.onebox_api import ApiProcess, open_api
from tests.waiting import eventually

_STOP_S = 15.0


@dataclass
class World:
    """One home with its API server and its node."""

    api: ApiProcess
    node: subprocess.Popen[bytes] | None = field(default=None)
    environment: dict[str, str] = field(default_factory=lambda: {TEMPLATES_VARIABLE: "storage"})
    """Of the node, beyond our own. The larger templates take two seconds of processor time, which few tests need."""

    @property
    def home(self) -> Home:
        return self.api.home

    @property
    def client(self) -> KubeClient:
        return self.api.client

    def start_node(self) -> None:
        with (self.home.logs / "node.log").open("ab") as output:
            self.node = subprocess.Popen(
                [sys.executable, "-X", "dev", "-m", "onebox.node", "--home", str(self.home.root)],
                stdout=output,
                stderr=output,
                env={**os.environ, HOME_VARIABLE: str(self.home.root), COMPONENT_VARIABLE: "node", **self.environment},
            )

    def kill_node(self) -> None:
        """kill -9."""
        assert self.node is not None
        self.node.kill()
        self.node.wait(_STOP_S)

    def stop_node(self) -> int:
        assert self.node is not None
        self.node.terminate()
        return self.node.wait(_STOP_S)

    def log(self) -> str:
        return (self.home.logs / "node.log").read_text()

    async def create(self, value: JsonObject) -> JsonObject:
        meta = {name: item for name, item in value["metadata"].items() if name != "uid"}
        return await self.client.create(PODS, {**value, "metadata": meta})

    async def pod(self, name: str = "pod") -> JsonObject | None:
        try:
            return await self.client.get(PODS, name, "default")
        except NotFound:
            return None

    async def until(
        self, what: str, condition: Callable[[JsonObject], Any], *, name: str = "pod", timeout_s: float = 20.0
    ) -> JsonObject:
        """The pod once it is so."""

        async def look() -> JsonObject | None:
            found = await self.pod(name)
            return found if found is not None and condition(found) else None

        try:
            found = await eventually(what, look, timeout_s=timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{await self.pod(name)}\n{self.log()}") from error
        assert found is not None
        return found

    async def gone(self, name: str = "pod", *, timeout_s: float = 20.0) -> None:
        async def look() -> bool:
            return await self.pod(name) is None

        await eventually(f"{name} is gone", look, timeout_s=timeout_s)

    def record(self, uid: str) -> Any:
        return orjson.loads((self.home.node / "pods" / uid / "record.json").read_bytes())

    def process(self, value: JsonObject, container: str = "main") -> ProcessId:
        """The recorded process of a container that runs."""
        return ProcessId(**self.record(value["metadata"]["uid"])["containers"][container]["process"])

    def container_log(self, value: JsonObject, container: str = "main", restarts: int = 0) -> str:
        meta = value["metadata"]
        folder = self.home.pod_logs / f"{meta['namespace']}_{meta['name']}_{meta['uid']}"
        return (folder / container / f"{restarts}.log").read_text()

    def pod_processes(self) -> list[ProcessId]:
        """Every process of this home that is of a pod; templates and components apart."""
        return [seen.identity for seen in scan(self.home.root) if not _is_component(seen.variables)]

    async def no_processes(self) -> None:
        async def look() -> bool:
            return not self.pod_processes()

        await eventually("no process of a pod is left", look)


def _is_component(variables: Iterable[str]) -> bool:
    return COMPONENT_VARIABLE in variables or TEMPLATE_VARIABLE in variables


@asynccontextmanager
async def open_world(root: Path, *, node: bool = True) -> AsyncIterator[World]:
    async with open_api(root) as api:
        world = World(api)
        if node:
            world.start_node()
        try:
            yield world
        finally:
            if world.node is not None and world.node.poll() is None:
                world.node.send_signal(signal.SIGTERM)
                await asyncio.to_thread(world.node.wait, _STOP_S)
            await asyncio.to_thread(kill_all, world.home, 2.0)


def is_ready(value: JsonObject) -> bool:
    conditions = value.get("status", {}).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def condition(value: JsonObject, type_: str) -> JsonObject:
    found: JsonObject = next(item for item in value["status"]["conditions"] if item["type"] == type_)
    return found


def container_status(value: JsonObject, name: str = "main") -> JsonObject:
    status = value.get("status", {})
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return next((item for item in statuses if item["name"] == name), {})


def port(value: JsonObject, number: int = 8080) -> int:
    return int(orjson.loads(value["metadata"]["annotations"]["onebox.ladle.dev/ports"])[str(number)])
