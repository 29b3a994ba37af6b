"""pods/log: answers with a container's output, and goes on as it grows where that was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from controller.base.json import JsonObject
from onebox.apiserver.context import Server
from onebox.apiserver.handlers.reading import find
from onebox.apiserver.logs import (
    LogOptions,
    choose_container,
    log_file,
    parse_log_options,
    read_log,
    read_more,
    waiting_reason,
)
from onebox.apiserver.objects.encoding import parse_object
from onebox.apiserver.objects.writing import key_of
from onebox.apiserver.requests import Target
from onebox.apiserver.status import bad_request

_FOLLOW_PERIOD_S = 0.2
"""How often a followed file is looked at. A guess at what a person takes for "at once"; a stat costs microseconds."""


async def read_logs(server: Server, request: web.BaseRequest, target: Target) -> web.StreamResponse:
    """The log of one container."""
    pod = parse_object(find(server, target), target)
    options = parse_log_options(request.query, server.clock.wall_s())
    container = choose_container(pod, options.container)
    directory = _directory(server, pod) / container
    path = await asyncio.to_thread(log_file, directory, previous=options.previous)
    if path is None:
        return _no_log(pod, container, options)
    content, offset = await asyncio.to_thread(read_log, path, options)
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    try:
        await response.write(content)
        if options.follow and not options.previous:
            await _follow(server, response, target, directory, path, offset)
        await response.write_eof()
    except ConnectionError:
        pass  # The client has read enough.
    return response


def _directory(server: Server, pod: JsonObject) -> Path:
    metadata = pod["metadata"]
    return server.home.pod_logs / f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"


def _no_log(pod: JsonObject, container: str, options: LogOptions) -> web.Response:
    name = pod["metadata"]["name"]
    if options.previous:
        raise bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
    if not (pod.get("spec") or {}).get("nodeName"):
        return web.Response(status=204)
    reason = waiting_reason(pod, container) or "ContainerCreating"
    doing = {"PodInitializing": "is waiting to start: PodInitializing"}.get(reason, f"is waiting to start: {reason}")
    raise bad_request(f'container "{container}" in pod "{name}" {doing}')


async def _follow(
    server: Server, response: web.StreamResponse, target: Target, directory: Path, path: Path, offset: int
) -> None:
    """Sends what is appended, across restarts of the container, until the pod is gone or the server stops."""
    alive = _alive(server, target)
    while True:
        more = await asyncio.to_thread(read_more, path, offset)
        if more:
            offset += len(more)
            await response.write(more)
            continue
        newest = await asyncio.to_thread(log_file, directory, previous=False)
        if newest is not None and newest != path:
            path, offset = newest, 0
            continue
        if not alive():
            return
        try:
            async with asyncio.timeout(_FOLLOW_PERIOD_S):
                await server.watches.closing.wait()
        except TimeoutError:
            continue
        return


def _alive(server: Server, target: Target) -> Callable[[], bool]:
    def alive() -> bool:
        record = server.store.get(key_of(target))
        return record is not None and record.fields.get("status.phase") not in ("Succeeded", "Failed")

    return alive
