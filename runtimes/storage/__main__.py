"""`python -m runtimes.storage SOURCE DESTINATION [SOURCE DESTINATION ...]`, as KServe's storage initializer is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path

from ladle.clock import SystemClock
from ladle.errors import TransientError, UserError
from ladle.log import get_logger
from ladle.server.termination import write_last_words
from runtimes.storage.schemes import fetch
from runtimes.storage.uri import printable

log = get_logger("runtimes.storage")


def main(argv: Sequence[str]) -> int:
    """0 when every source is in place; 1 with the reason in the termination log."""
    if not argv or len(argv) % 2:
        write_last_words("usage: python -m runtimes.storage SOURCE DESTINATION [SOURCE DESTINATION ...]")
        return 2
    if os.environ.get("CONFIDENTIAL_ENABLED") == "true":
        write_last_words(
            "the model is encrypted (confidential.enabled), and this initializer cannot decrypt; name one that can in a "
            "ClusterStorageContainer, or leave confidential out"
        )
        return 1
    with _trusting():
        return _fetch_all(list(zip(argv[::2], argv[1::2], strict=True)))


def _trusting() -> AbstractContextManager[None]:
    """The certificate authorities that are mounted, for the block."""
    if not os.environ.get("CA_BUNDLE_CONFIGMAP_NAME"):
        return nullcontext()
    # Not at the top: TLS takes longer to import than a local model to be in place.
    trusting: AbstractContextManager[None] = import_module("runtimes.storage.ca_bundle").mounted_authorities(os.environ)
    return trusting


def _fetch_all(wanted: Sequence[tuple[str, str]]) -> int:
    clock = SystemClock()
    for source, destination in wanted:
        began_s = clock.monotonic_s()
        try:
            fetch(source, Path(destination))
        except (UserError, TransientError) as error:
            write_last_words(str(error))
            return 1
        took_s = clock.monotonic_s() - began_s
        log.info("model files in place", source=printable(source), destination=destination, seconds=round(took_s, 3))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
