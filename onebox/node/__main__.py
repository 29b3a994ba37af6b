"""`python -m onebox.node --home DIR`: runs the pods of a home as processes, until SIGTERM; they go on without it."""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
from collections.abc import Sequence
from pathlib import Path

import uvloop

from controller.base.clock import SystemClock
from controller.base.logging import configure_logging
from controller.kube.client import KubeClient
from onebox.home import Home
from onebox.node.run import run


async def serve(home: Home) -> None:
    opening = KubeClient.open(home.component_kubeconfig("node"), user_agent="ladle-node")
    async with opening as client, asyncio.TaskGroup() as group:
        task = group.create_task(run(client, home, SystemClock()))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m onebox.node", description=__doc__)
    parser.add_argument("--home", required=True, type=Path)
    home = Home(parser.parse_args(argv).home)
    configure_logging(home.settings().log_level, component="node")
    gc.freeze()  # What imports made lives as long as the process: full collections need not look at it.
    uvloop.run(serve(home))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
