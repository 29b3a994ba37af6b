"""`python -m onebox.apiserver --home DIR`: the Kubernetes API of one onebox."""

from __future__ import annotations

import argparse
import random
import sys

import uvloop

from controller.base.clock import SystemClock
from controller.base.errors import UserError
from controller.base.logging import configure_logging, get_logger
from onebox.apiserver.server import serve
from onebox.home import Home

log = get_logger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Serves until SIGTERM; exit code 1 with a message where it cannot start."""
    parser = argparse.ArgumentParser(prog="onebox.apiserver", description=__doc__)
    parser.add_argument("--home", help="directory of the onebox (default: $LADLE_HOME or ~/.ladle)")
    home = Home.locate(parser.parse_args(argv).home)
    try:
        configure_logging(home.settings().log_level, component="apiserver")
        uvloop.run(serve(home, SystemClock(), random.SystemRandom()))
    except UserError as error:
        log.error("cannot start", reason=error.reason, message=error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
