"""Waiting for a server on the same machine, which this one is nothing without: a predictor beside its transformer."""

from __future__ import annotations

import asyncio

from ladle.log import get_logger

_POLL_S = 0.02
"""How often it is tried; a connection to loopback that is refused takes 0.1 ms."""
log = get_logger(__name__)


async def until_listens(host: str, port: int) -> None:
    """Returns when the server takes connections, which ours do when their models are loaded. It has no deadline of its own:
    whoever waits for this server has one, and the log says what is missing."""
    told = False
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            if not told:
                log.info("waiting for the predictor", address=f"{host}:{port}", error=str(error))
            told = True
            await asyncio.sleep(_POLL_S)
        else:
            writer.transport.abort()
            return
