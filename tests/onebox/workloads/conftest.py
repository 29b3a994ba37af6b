from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from controller.kube.client import KubeClient
from onebox.home import Home
from tests.onebox_api import ApiProcess, api

__all__ = ["api", "background", "box"]


@pytest.fixture
def box(api: ApiProcess) -> tuple[KubeClient, Home]:
    """A client of a real API server, and its home."""
    return api.client, api.home


@pytest.fixture
def background() -> Callable[[Coroutine[Any, Any, None]], AbstractAsyncContextManager[None]]:
    """Runs a coroutine while the block does, and cancels it then."""

    @asynccontextmanager
    async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(work)
            yield
            task.cancel()

    return running
