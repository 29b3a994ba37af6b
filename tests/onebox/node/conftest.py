from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.onebox.node.world import World, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """An API server and a node for one test."""
    async with open_world(tmp_path / "home") as opened:
        yield opened
