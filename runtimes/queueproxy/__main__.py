"""`python -m runtimes.queueproxy`: the sidecar. USER_PORT is the container's, LADLE_HTTP_PORT and LADLE_ADMIN_PORT its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from ladle.clock import SystemClock
from ladle.errors import UserError
from ladle.log import get_logger
from ladle.server.loop import run_loop
from ladle.server.termination import write_last_words
from runtimes.queueproxy.sidecar import Sidecar, SidecarSettings

_UNTIMED_DRAIN_S = 600.0
"""How long answers may take to finish after SIGTERM where no timeout bounds them; Knative has no limit there."""

log = get_logger("runtimes.queueproxy")


def main(argv: Sequence[str]) -> int:
    """Proxies until SIGTERM and the drain that follows it; understands the flags of KServe's agent for its batcher."""
    code = 1
    try:
        run_loop(_proxy(SidecarSettings.parse(argv, os.environ)))
        code = 0
    except* (UserError, OSError) as group:
        write_last_words("; ".join(str(error) for error in group.exceptions))
    return code


async def _proxy(settings: SidecarSettings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as tasks:
        sidecar = Sidecar(settings, tasks, clock=SystemClock())
        try:
            await sidecar.start()
            await stop.wait()
            log.info("stopping", inside=sidecar.queue_proxy.stats.concurrency)
            await sidecar.drain(settings.queue.timeout_s or _UNTIMED_DRAIN_S)
        finally:
            sidecar.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
