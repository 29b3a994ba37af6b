"""A server that is none of ours and streams: WebSockets at /echo, server-sent events at /events. Listens where PORT says."""

from __future__ import annotations

import asyncio
import os

from aiohttp import web

release = asyncio.Event()
"""Set by whoever has read the first event."""


async def echo(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(f"echo {message.data}")
    return socket


async def events(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"data: first\n\n")
    await release.wait()
    release.clear()
    await response.write(b"data: second\n\n")
    return response


async def go_on(_: web.Request) -> web.Response:
    release.set()
    return web.Response()


def main() -> None:
    app = web.Application()
    app.add_routes([web.get("/echo", echo), web.get("/events", events), web.post("/go-on", go_on)])
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None)


if __name__ == "__main__":
    main()
