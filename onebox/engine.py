"""The part of onebox that makes things happen: workloads, Knative and Istio, in one process.

One process, since they share nothing but the API and would each cost the memory of a Python interpreter; one task for
each, in one group: a failure of one is a bug, ends the process loudly, and the supervisor starts it anew.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import signal
from collections.abc import Sequence
from pathlib import Path

import uvloop

from controller.base.clock import SystemClock
from controller.base.logging import configure_logging
from controller.kube.client import KubeClient
from onebox.home import Home
from onebox.install import install_once_up
from onebox.istio.run import run as run_istio
from onebox.knative.run import run as run_knative
from onebox.workloads.run import run as run_workloads


async def run(home: Home) -> None:
    """Installs what manifests refer to, then runs every subsystem until SIGTERM."""
    clock, rng = SystemClock(), random.Random()  # noqa: S311  # Pod names and retries need no secrecy.
    async with KubeClient.open(home.component_kubeconfig("engine"), user_agent="ladle-engine") as client:
        await install_once_up(client)
        async with asyncio.TaskGroup() as group:
            parts = (run_workloads, run_knative, run_istio)
            tasks = [group.create_task(part(client, home, clock, rng)) for part in parts]
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, lambda: [task.cancel() for task in tasks])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m onebox.engine", description=__doc__)
    parser.add_argument("--home", required=True, type=Path)
    home = Home(parser.parse_args(argv).home)
    configure_logging(home.settings().log_level, component="engine")
    gc.freeze()  # What imports made lives as long as the process: full collections need not look at it.
    uvloop.run(run(home))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
