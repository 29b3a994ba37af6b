"""Which clusters have their endpoints in a file of their own, and which in the table of clusters (pure).

A file of its own is best: a change of endpoints is one small file, in force after 3 ms. But Envoy watches each with an
inotify instance, of which Linux gives a user 128 by default, shared with editors and desktops; and Envoy aborts when it
gets no more. So only as many clusters as are safe have a file, the first to come; the others carry their endpoints, and a
change reads the whole table (docs/decisions/0006-endpoint-files.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

_LIMIT_FILE = Path("/proc/sys/fs/inotify/max_user_instances")
_LIMIT_DEFAULT = 128
"""Linux' default for /proc/sys/fs/inotify/max_user_instances."""
_SHARE = 4
"""One home takes a quarter of the user's inotify instances. A guess that leaves room for editors and a second home."""


def files_max(limit_file: Path = _LIMIT_FILE) -> int:
    """How many endpoint files one home may have on this machine."""
    try:
        limit = int(limit_file.read_text())
    except (OSError, ValueError):
        limit = _LIMIT_DEFAULT
    return limit // _SHARE


def file_name(cluster: str) -> str:
    """The endpoint file of a cluster; `|` is trouble in shells and `_` is in no name of Kubernetes."""
    return cluster.replace("|", "_") + ".json"


@dataclass(slots=True)
class EndpointFiles:
    """Who has a file: whoever came while there was room. A cluster keeps what it has, since a switch replaces it."""

    directory: Path
    room: int
    _holders: set[str] = field(default_factory=set)

    def path(self, cluster: str) -> str | None:
        """The file of this cluster, which it gets if there is room; None where it has to carry its endpoints."""
        if cluster not in self._holders:
            if len(self._holders) >= self.room:
                return None
            self._holders.add(cluster)
        return str(self.directory / file_name(cluster))

    def close(self) -> None:
        """Takes all files away, for good."""
        self.room = 0
        self._holders.clear()

    def release(self, cluster: str) -> None:
        """Makes room: the cluster is gone."""
        self._holders.discard(cluster)

    def __len__(self) -> int:
        return len(self._holders)
