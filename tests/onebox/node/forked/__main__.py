"""Says who it is, then sleeps until it is told to end, or exits with the code in its first argument."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    sys.stdout.write(f"{os.getpid()} {os.environ.get('WORD', '')} {os.getcwd()}\n")
    sys.stdout.flush()
    if argv:
        return int(argv[0])
    ended.wait(60)
    return 5


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
