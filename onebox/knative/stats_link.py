"""What the activator tells the autoscaler, and where: JSON lines over a unix socket in the home.

Each line is about one revision: a report each second while requests wait or run, and at once for the first request of a
revision that was idle, which is what wakes it. Nothing is answered. A lost line does no harm; the next report says more.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import orjson

from onebox.home import Home


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivatorStat:
    """One line."""

    namespace: str
    name: str
    average_concurrent_requests: float
    request_count: float
    pod: str = "activator"


def encode_stat(stat: ActivatorStat) -> bytes:
    return orjson.dumps(stat) + b"\n"


def decode_stat(line: bytes) -> ActivatorStat:
    """The stat of a line; ValueError where it is none."""
    try:
        fields = orjson.loads(line)
        return ActivatorStat(
            namespace=str(fields["namespace"]),
            name=str(fields["name"]),
            average_concurrent_requests=float(fields["average_concurrent_requests"]),
            request_count=float(fields["request_count"]),
            pod=str(fields.get("pod", "activator")),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no stat: {error}") from error


def socket_path(home: Home) -> Path:
    return home.run / "autoscaler.sock"
