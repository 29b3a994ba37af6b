"""`python -m runtimes.storage SRC DST [SRC DST ...]`: KServe's storage initializer, argument for argument.

What went wrong goes to stderr and to the termination log, from where it reaches the InferenceService's status.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ladle.errors import TransientError, UserError
from runtimes.storage.fetch import fetch

TERMINATION_LOG_VARIABLE = "LADLE_TERMINATION_LOG"
DEFAULT_TERMINATION_LOG = Path("/dev/termination-log")
"""Where Kubernetes mounts the file that it reads a container's last words from (core/v1 terminationMessagePath)."""
USAGE = (
    "usage: python -m runtimes.storage SRC DST [SRC DST ...]: copies each model from the URI SRC into the directory DST"
)


def main(argv: Sequence[str]) -> int:
    """0 when every source is in place; 1 with the reason in the termination log otherwise."""
    if not argv or len(argv) % 2:
        return _refuse(USAGE)
    for source, destination in zip(argv[::2], argv[1::2], strict=True):
        try:
            fetch(source, Path(destination))
        except (UserError, TransientError) as error:
            return _refuse(str(error))
        except OSError as error:  # A full disk, a directory that may not be written: the operator's to mend.
            return _refuse(f"{source}: writing to {destination} failed: {error.strerror or error}")
    return 0


def _refuse(message: str) -> int:
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()
    chosen = os.environ.get(TERMINATION_LOG_VARIABLE)
    path = Path(chosen) if chosen else DEFAULT_TERMINATION_LOG
    if chosen or path.exists():
        path.write_text(message)
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
