"""Seeded worlds: real reconcilers and the real autoscaler in virtual time, with faults; invariants of docs/architecture.md."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.sim.api import open_api
from tests.sim.virtual_time import VirtualClock, run_virtually
from tests.sim.world import World

FEW, MANY = range(1, 4), range(1000, 1200)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of lines about faults would take most of the time."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


async def play(root: Path, seeds: range) -> list[str]:
    """What did not hold in these worlds, with their seeds."""
    broken: list[str] = []
    async with open_api(root, VirtualClock(), random.Random(0)) as server:
        for seed in seeds:
            world = World(server, seed)
            await world.play()
            broken += [f"seed {seed}, {problem}" for problem in world.broken]
            assert world.traffic.answered > 0
    return broken


@pytest.mark.long
def test_invariants_hold_in_some_worlds(tmp_path: Path) -> None:
    assert run_virtually(play(tmp_path, FEW)) == []


@pytest.mark.long
def test_invariants_hold_in_two_hundred_worlds(tmp_path: Path) -> None:
    assert run_virtually(play(tmp_path, MANY)) == []
