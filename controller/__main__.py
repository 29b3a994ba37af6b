"""`python -m controller`: the control plane's reconcilers as one process, on any cluster that a kubeconfig points to."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import signal
import socket
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from controller.base.clock import SystemClock
from controller.base.logging import configure_logging, get_logger
from controller.base.metrics_socket import metrics_on
from controller.inferenceservice.later_kinds import run_later_kinds
from controller.inferenceservice.run import run as run_inference_services
from controller.inferenceservice.world import Namespaces
from controller.kube.client import KubeClient
from controller.kube.leader import LeaderElection, LeadershipLost
from controller.reconcile.controller import collect_controllers

LEASE_NAME = "ladle-controller"

log = get_logger(__name__)


async def serve(kubeconfig: Path | None, *, elect: bool) -> None:
    """Reconciles until SIGTERM; with `elect` only while no other replica does."""
    clock, rng = SystemClock(), random.Random()  # noqa: S311  # Spreads retries; no secret hangs on it.
    namespaces = Namespaces(
        kserve=os.environ.get("KSERVE_NAMESPACE", "kserve"),
        knative=os.environ.get("KNATIVE_NAMESPACE", "knative-serving"),
    )
    async with KubeClient.open(kubeconfig, user_agent="ladle-controller") as client:

        async def work() -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(run_inference_services(client, clock, rng, namespaces=namespaces))
                tasks.create_task(run_later_kinds(client, clock, rng))

        if not elect:
            await work()
            return
        identity = f"{socket.gethostname()}_{os.getpid()}"
        namespace = os.environ.get("POD_NAMESPACE", "ladle-system")
        await LeaderElection(client, namespace=namespace, name=LEASE_NAME, identity=identity, clock=clock).lead(work)


async def until_signal(kubeconfig: Path | None, *, elect: bool) -> int:
    """The exit code: 0 after SIGTERM or SIGINT, 1 where another replica took over."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_exit_code(kubeconfig, elect=elect))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
    return 0 if task.cancelled() else task.result()


async def _exit_code(kubeconfig: Path | None, *, elect: bool) -> int:
    try:
        await serve(kubeconfig, elect=elect)
    except LeadershipLost as error:
        log.error("leadership lost", error=str(error))
    return 1


async def _observed(socket_path: Path | None, probe_port: int | None, work: Awaitable[int]) -> int:
    """Serves metrics and probes while it works."""
    async with AsyncExitStack() as stack:
        if socket_path is not None:
            await stack.enter_async_context(metrics_on(socket_path, [collect_controllers]))
        if probe_port is not None:
            # Not at the top: on one machine nobody asks, and a server is 5 MB of modules.
            from controller.base.probes import probes_on

            port = await stack.enter_async_context(probes_on(probe_port, [collect_controllers]))
            log.info("probes", port=port)
        return await work


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m controller", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, help="default: $KUBECONFIG, else the pod's service account")
    parser.add_argument("--metrics-socket", type=Path, help="serve metrics on this unix socket; default: nowhere")
    parser.add_argument("--probe-port", type=int, help="answer /healthz and /metrics on this port; default: nowhere")
    parser.add_argument("--no-leader-elect", action="store_true", help="reconcile at once; for a single replica")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    arguments = parser.parse_args(argv)
    configure_logging(arguments.log_level, component="controller")
    gc.freeze()  # What imports made lives as long as the process: full collections need not look at it.
    work = until_signal(arguments.kubeconfig, elect=not arguments.no_leader_elect)
    return uvloop.run(_observed(arguments.metrics_socket, arguments.probe_port, work))


if __name__ == "__main__":
    raise SystemExit(main())
