"""Transformers as servers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from ladle import Transformer
from tests.ladle.server.serving import Served, served


@contextlib.asynccontextmanager
async def fronted(transformer: Transformer) -> AsyncIterator[Served]:
    """A transformer's server; its connections to the predictor are closed at the end, as when a server ends."""
    async with served(transformer, grpc_port=0) as app:
        try:
            yield app
        finally:
            transformer.unload()
            for _ in range(3):  # The closing is scheduled, then done, then seen by the transports.
                await asyncio.sleep(0)
