"""A server that is none of ours and answers in pieces, listening where PORT says. Its first line is its process."""

from __future__ import annotations

import asyncio
import os

from aiohttp import web


async def pieces(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await response.write(f"process {os.getpid()}\n".encode())
    for number in range(int(request.query["count"])):
        await later(float(request.query["gap_s"]))
        await response.write(f"data: {number}\n".encode())
    return response


async def later(seconds: float) -> None:
    """The gap between pieces, which is what makes this a stream."""
    over = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, over.set_result, None)
    await over


def main() -> None:
    app = web.Application()
    app.router.add_get("/pieces", pieces)
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None)


if __name__ == "__main__":
    main()
