"""A server that is none of ours, as users bring them: V1 on aiohttp, listening where PORT says."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from aiohttp import web

calls: list[int] = []
"""Rows of each prediction."""


async def predict(request: web.Request) -> web.Response:
    rows: list[Any] = (await request.json())["instances"]
    calls.append(len(rows))
    await working(float(os.environ.get("SLOW_S", "0")))
    return web.json_response({"predictions": [sum(row) for row in rows]})


async def working(seconds: float) -> None:
    """The model's own slowness."""
    over = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, over.set_result, None)
    await over


async def seen(_: web.Request) -> web.Response:
    return web.json_response({"calls": calls, "pid": os.getpid()})


async def events(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for number in range(3):
        await response.write(f"data: {number}\n\n".encode())
    return response


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(f"you said {message.data}")
    return socket


def main() -> None:
    app = web.Application()
    app.router.add_post("/v1/models/{name}:predict", predict)
    app.router.add_get("/seen", seen)
    app.router.add_get("/events", events)
    app.router.add_get("/echo", echo)
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None)


if __name__ == "__main__":
    main()
