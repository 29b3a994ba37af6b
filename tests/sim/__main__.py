"""`python -m tests.sim 1000 1200`: plays the worlds with these seeds, and prints a line of JSON for each.

    python -m tests.sim 1042 --log debug    one world again, with what its controllers say

A seed is the same world each time and wherever it is played: alone, after others, on any machine with this Python and these
libraries. Exit status 1 where an invariant did not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import structlog

from onebox.apiserver.context import Server
from onebox.apiserver.storage.records import Change
from tests.sim.api import open_api
from tests.sim.virtual_time import VirtualClock, run_virtually
from tests.sim.world import World

_HASH_SEED = "0"
"""The order of sets must not differ from run to run."""
_WORLDS_PER_LOOK = 10
"""Worlds between two looks for garbage. One leaves some 30,000 objects in cycles; looking as often as Python does by itself
takes a third of the time."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("end", type=int, nargs="?", help="the first seed that is not played; default: one world")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--step", type=int, default=1, help="plays every so manieth seed only")
    parser.add_argument(
        "--again", action="store_true", help="plays the first world once more at the end: it must be the same"
    )
    parser.add_argument("--log", default="critical", help="level of the controllers' lines on stderr")
    chosen = parser.parse_args(argv)
    end = chosen.first + 1 if chosen.end is None else chosen.end
    if chosen.processes > 1 or os.environ.get("PYTHONHASHSEED") != _HASH_SEED:
        options = ["--log", chosen.log, *(["--again"] if chosen.again else [])]
        return _spread(chosen.first, end, chosen.processes, options)
    logging_level = logging.getLevelNamesMapping()[chosen.log.upper()]
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging_level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    with tempfile.TemporaryDirectory(prefix="ladle-sim-") as root:
        return run_virtually(_play(Path(root), range(chosen.first, end, chosen.step), again=chosen.again))


def _spread(first: int, end: int, processes: int, options: Sequence[str]) -> int:
    """Plays the worlds in processes of their own; the worst of their exit statuses."""
    command = [sys.executable, "-m", "tests.sim", *options, "--step", str(processes)]
    started = [
        subprocess.Popen([*command, str(first + number), str(end)], env={**os.environ, "PYTHONHASHSEED": _HASH_SEED})
        for number in range(processes)
    ]
    return max(process.wait() for process in started)


async def _play(root: Path, seeds: Sequence[int], *, again: bool) -> int:
    results: list[dict[str, Any]] = []
    async with open_api(root, VirtualClock(), random.Random(0)) as server:
        gc.collect()
        gc.freeze()
        gc.disable()
        for number, seed in enumerate((*seeds, *(seeds[:1] if again else ())), 1):
            if number % _WORLDS_PER_LOOK == 0:
                gc.collect()
            result = await _play_one(server, seed)
            if any(other["seed"] == seed and other["trace"] != result["trace"] for other in results):
                result["broken"].append("another world than the first time")
            results.append(result)
            sys.stdout.write(orjson.dumps(result).decode() + "\n")
            sys.stdout.flush()
    return int(any(result["broken"] for result in results))


async def _play_one(server: Server, seed: int) -> dict[str, Any]:
    started_s, trace, world = time.process_time(), _Trace(server), World(server, seed)
    await world.play()
    return {
        "seed": seed,
        "answered": world.traffic.answered,
        "changes": world.invariants.changes,
        "trace": trace.digest(),
        "cpu_s": round(time.process_time() - started_s, 2),
        "broken": world.invariants.broken,
    }


class _Trace:
    """What happened when, as a digest: two plays of a seed must agree in it."""

    def __init__(self, server: Server) -> None:
        self._digest = hashlib.sha256()
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._begin_s = -1.0
        server.store.subscribe(self._on_change)

    def _on_change(self, change: Change) -> None:
        now_s = self._loop.time()
        if self._begin_s < 0:
            self._begin_s = now_s
        key = change.record.key
        line = f"{now_s - self._begin_s:.6f} {change.type} {key.resource} {key.namespace} {key.name}\n"
        self._digest.update(line.encode())

    def digest(self) -> str:
        self._server.store._listeners.remove(self._on_change)
        return self._digest.hexdigest()[:12]


if __name__ == "__main__":
    raise SystemExit(main())
