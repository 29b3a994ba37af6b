"""Envoy's configuration files: where they lie, how they are replaced, what they hold.

A file is replaced only where its content changes, and always by a rename: Envoy notices nothing else, and a crash leaves
the old file or the new one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import orjson

from onebox.home import write_atomically
from onebox.istio.endpoint_files import file_name
from onebox.istio.registry import Listener
from onebox.istio.wire_tables import route_table_head
from onebox.istio.xds import ROUTE_CONFIGURATION, any_of, render_message, render_response


class ConfigFiles:
    """The files of one home; the only writer of them while it lives."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._written: dict[Path, bytes] = {}

    @property
    def listeners(self) -> Path:
        return self._directory / "lds.json"

    @property
    def clusters(self) -> Path:
        return self._directory / "cds.json"

    @property
    def endpoints(self) -> Path:
        """One file for each cluster: Envoy refuses a file with several."""
        return self._directory / "eds"

    def routes(self, listener: Listener) -> Path:
        return self._directory / f"rds-{listener.value}.json"

    def write(self, path: Path, content: bytes, *, always: bool = False) -> bool:
        """Replaces a file; False where it held this content already and need not be read by Envoy again (`always`)."""
        if not always and self._content(path) == content:
            return False
        write_atomically(path, content)
        self._written[path] = content
        return True

    def write_table(self, path: Path, content: bytes, wire: bytes, *, always: bool = False) -> bool:
        """Replaces a table that Envoy reads from `wire_path(path)`; `content` says the same in JSON, for people and for
        the next start of ours. False as above.
        """
        written = self.write(wire_path(path), wire, always=always)
        self.write(path, content)  # Afterwards: it must not say what Envoy has not been told.
        return written

    def write_endpoints(self, cluster: str, assignment: bytes) -> bool:
        """Replaces the endpoints of one cluster; False where they were these."""
        return self.write(self.endpoints / file_name(cluster), render_response([assignment])[1])

    def remove_endpoints_but(self, clusters: Collection[str]) -> None:
        """Removes the endpoint files of all other clusters."""
        kept = {file_name(cluster) for cluster in clusters}
        for path in self.endpoints.glob("*.json") if self.endpoints.exists() else ():
            if path.name not in kept:
                path.unlink(missing_ok=True)
                self._written.pop(path, None)

    def _content(self, path: Path) -> bytes | None:
        if path not in self._written:
            try:
                self._written[path] = path.read_bytes()
            except FileNotFoundError:
                return None
        return self._written[path]


def wire_path(table: Path) -> Path:
    """Where Envoy reads a table in protobuf's form; it goes by the name's end."""
    return table.with_suffix(".pb")


def render_routes(listener: Listener, virtual_hosts: Iterable[bytes]) -> tuple[str, bytes]:
    """Version and content of a listener's route table."""
    head = render_message(any_of(ROUTE_CONFIGURATION, route_table_head(listener)))
    return render_response([b'%s,"virtual_hosts":[%s]}' % (head[:-1], b",".join(virtual_hosts))])


def parse_clusters(content: bytes) -> dict[str, bytes]:
    """The clusters of a file that this module wrote, by name, as they were rendered."""
    return {str(found["name"]): render_message(found) for found in orjson.loads(content)["resources"]}


def parse_routes(content: bytes) -> dict[str, bytes]:
    """The virtual hosts of a route table that this module wrote, by name, as they were rendered."""
    (table,) = orjson.loads(content)["resources"]
    # Unlike clusters they keep their order of keys: they are put together from parts.
    return {str(found["name"]): orjson.dumps(found) for found in table["virtual_hosts"]}
