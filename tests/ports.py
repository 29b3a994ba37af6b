"""Ports for servers that have to be told theirs.

Drawn by lot below Linux's ephemeral range (32768 and up) and below what onebox uses (20000 and up): a port that the kernel
chose and took back may be the source of any client's next connection before the server binds it.
"""

from __future__ import annotations

import random

from onebox.ports import is_free

_RANGE = range(10_000, 20_000)


def free_port() -> int:
    """A port of loopback that nobody listens on right now."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """`count` different ones."""
    found: list[int] = []
    for port in random.SystemRandom().sample(_RANGE, len(_RANGE)):
        if len(found) == count:
            break
        if is_free(port):
            found.append(port)
    assert len(found) == count, f"only {len(found)} ports of {_RANGE} are free, {count} are wanted"
    return found
