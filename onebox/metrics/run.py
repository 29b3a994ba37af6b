"""Serves the page of metrics at `http://127.0.0.1:<metrics_port>/metrics`, from within the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from aiohttp import web

from controller.base.exposition import CONTENT_TYPE, Collect, Family
from controller.base.logging import get_logger
from controller.base.metrics_socket import read_page
from controller.reconcile.controller import collect_controllers
from onebox.home import Home, metrics_socket
from onebox.istio.admin import Admin, EnvoyAway
from onebox.istio.bootstrap import admin_socket
from onebox.metrics.gateway import FILTER, LabelsOf, plan_gateway_families
from onebox.metrics.page import Page, Read, SourceAway, parse_source
from onebox.metrics.processes import read_processes

PATH = "/metrics"
_HOST = "127.0.0.1"
_COMPONENTS = ("activator", "apiserver", "controller", "node")
"""Those that serve a page on a socket of their own."""
_LISTEN_RETRY_S = 5.0
"""When the port is tried again after somebody else had it: metrics are no reason to end the engine. A guess."""

log = get_logger(__name__)


async def run(home: Home, collectors: Iterable[Collect], labels_of: LabelsOf) -> None:
    """Serves until cancelled."""
    async with Admin.open(admin_socket(home)) as admin:
        page = Page((collect_controllers, *collectors), _sources(home, admin, labels_of))
        port = home.settings().metrics_port
        while True:
            try:
                await serve(page, port)
            except OSError as error:
                log.warning("no page of metrics", port=port, error=str(error), retry_s=_LISTEN_RETRY_S)
                await asyncio.sleep(_LISTEN_RETRY_S)


def _sources(home: Home, admin: Admin, labels_of: LabelsOf) -> Mapping[str, Read]:
    return {
        **{name: partial(_read_socket, metrics_socket(home, name)) for name in _COMPONENTS},
        "envoy": partial(_read_gateway, admin, labels_of),
        "processes": partial(asyncio.to_thread, read_processes, home),
    }


async def serve(page: Page, port: int) -> None:
    """Answers on the port until cancelled; OSError where it cannot be had."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path != PATH:
            return web.Response(status=404, text=f"there is only {PATH}\n")
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"})
        return web.Response(body=(await page.render()).encode(), headers={"Content-Type": CONTENT_TYPE})

    async with AsyncExitStack() as stack:
        runner = web.ServerRunner(web.Server(answer, access_log=None))
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, _HOST, port).start()
        await asyncio.Event().wait()


async def _read_socket(path: Path) -> Iterable[Family]:
    return parse_source(await read_page(path))


async def _read_gateway(admin: Admin, labels_of: LabelsOf) -> Iterable[Family]:
    try:
        return plan_gateway_families(await admin.page(FILTER), labels_of)
    except EnvoyAway as error:
        raise SourceAway(str(error)) from error
