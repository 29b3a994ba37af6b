"""`python -m onebox.knative.activator --home DIR`: holds requests for revisions without pods, and wakes them."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Sequence
from pathlib import Path

import uvloop

from controller.base.logging import configure_logging
from onebox.home import Home
from onebox.knative.activator.run import run


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m onebox.knative.activator", description=__doc__)
    parser.add_argument("--home", required=True, type=Path)
    home = Home(parser.parse_args(argv).home)
    configure_logging(home.settings().log_level, component="activator")
    gc.freeze()  # What imports made lives as long as the process: full collections need not look at it.
    uvloop.run(run(home))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
