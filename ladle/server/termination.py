"""The last words of a container: the file that the kubelet shows as its state's message."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

MESSAGE_BYTES_MAX = 4096
"""What Kubernetes keeps of a termination message."""
_KUBERNETES_PATH = "/dev/termination-log"
"""Where Kubernetes mounts it unless the container says otherwise."""


def write_last_words(message: str, env: Mapping[str, str] = os.environ) -> None:
    """Leaves `message` on stderr and in the termination log, where there is one."""
    sys.stderr.write(message.rstrip("\n") + "\n")
    path = Path(env.get("LADLE_TERMINATION_LOG") or _KUBERNETES_PATH)
    if "LADLE_TERMINATION_LOG" not in env and not path.exists():
        return
    with suppress(OSError):  # The message is on stderr already, and the exit code says the rest.
        path.write_bytes(message.encode()[:MESSAGE_BYTES_MAX])
