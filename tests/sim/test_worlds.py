"""Seeded worlds: real reconcilers and the real autoscaler in virtual time, with faults; invariants of design.md 8."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

ROOT = Path(__file__).parents[2]


def play(*arguments: str) -> list[dict[str, Any]]:
    """What came of the worlds. In a process of its own: the heap of a long test run makes each look for garbage slow."""
    command = [sys.executable, "-m", "tests.sim", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, check=False)
    return [orjson.loads(line) for line in done.stdout.splitlines()]


def broken(worlds: list[dict[str, Any]]) -> dict[int, list[str]]:
    return {world["seed"]: world["broken"] for world in worlds if world["broken"]}


def test_invariants_hold_in_some_worlds_and_a_seed_is_one_world() -> None:
    worlds = play("1", "4", "--again")
    assert broken(worlds) == {}
    assert [world["seed"] for world in worlds] == [1, 2, 3, 1]
    assert sum(world["answered"] for world in worlds) > 100


@pytest.mark.long
def test_invariants_hold_in_two_hundred_worlds() -> None:
    worlds = play("1000", "1200", "--processes", "2")
    assert broken(worlds) == {}
    assert {world["seed"] for world in worlds} == set(range(1000, 1200))
