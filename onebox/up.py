"""Starts a onebox and says how it is: what `ladle up`, `ladle down` and `ladle status` do.

`prepare` decides settings and writes credentials and files; `start_supervisor` starts the one process that starts the
others; `wait_until_up` returns once the API, the gateway and the models that were ready answer.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from controller.base.errors import TransientError
from onebox.apiserver.pki import ensure_credentials
from onebox.components import components, read_components, write_components
from onebox.home import Home, OneboxSettings, write_atomically
from onebox.istio.bootstrap import write_bootstrap
from onebox.node.reap import kill_all
from onebox.ports import check_ports, scatter_internal_ports
from onebox.processes import HOME_VARIABLE, end, identify, processes_of, proportional_memory_bytes
from onebox.settled import REVISION_SELECTOR, settled
from onebox.supervisor import read_record, supervisor_pid

START_TIMEOUT_S = 60.0
"""How long `ladle up` waits for everything to answer. The budget is 5 s; the engine's imports alone, the longest part, took
10 s at a load of 35 on 2 cores (measured 2026-11-21), and the API server and the node come before it has done its work."""
STOP_TIMEOUT_S = 40.0
"""How long `ladle down` waits for the supervisor to end all: its four groups have 8 s each."""
_POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentStatus:
    name: str
    purpose: str
    pid: int | None
    restarts: int
    memory_bytes: int
    """With a page that n processes share counted as 1/n of it."""


def prepare(home: Home, *, api_port: int | None, gateway_port: int | None) -> OneboxSettings:
    """Settles ports, credentials and files of a home whose supervisor does not run; UserError where a port is taken.

    A port that was not asked for keeps its number from last time, so that a kubeconfig and status URLs stay true.
    """
    settings = _stored_settings(home)
    asked = {"api_port": api_port, "gateway_port": gateway_port}
    settings = settings.with_ports({name: port for name, port in asked.items() if port is not None})
    if not _leftovers(home):  # What still runs from an earlier supervisor holds its own ports.
        settings = check_ports(settings)
    home.root.mkdir(parents=True, exist_ok=True)
    os.chmod(home.root, 0o700)
    home.run.mkdir(exist_ok=True)
    home.write_settings(settings)
    ensure_credentials(home, settings)
    write_bootstrap(home, settings)
    write_components(home, components(home, settings))
    addresses = {
        "api": f"https://127.0.0.1:{settings.api_port}",
        "gateway": f"http://127.0.0.1:{settings.gateway_port}",
        "metrics": metrics_url(settings),
    }
    write_atomically(home.endpoints, json.dumps(addresses, indent=2).encode() + b"\n")
    return settings


def metrics_url(settings: OneboxSettings) -> str:
    """Where Prometheus finds everything."""
    return f"http://127.0.0.1:{settings.metrics_port}/metrics"


def _stored_settings(home: Home) -> OneboxSettings:
    return home.settings() if home.settings_file.exists() else scatter_internal_ports(OneboxSettings())


def _leftovers(home: Home) -> bool:
    records = (read_record(home, component.name) for component in read_components(home))
    return any(record and record[0].alive() for record in records)


def start_supervisor(home: Home) -> int:
    """Starts the supervisor in a session of its own, so that it outlives the terminal; returns its pid."""
    home.logs.mkdir(parents=True, exist_ok=True)
    with (home.logs / "supervisor.log").open("ab") as output:
        process = subprocess.Popen(
            (sys.executable, "-m", "onebox.supervisor", "--home", str(home.root)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, HOME_VARIABLE: str(home.root)},
            start_new_session=True,
        )
    return process.pid


def wait_until_up(home: Home, settings: OneboxSettings, *, on_ready: Callable[[str], None]) -> None:
    """Returns when the API, the gateway and ready models answer; TransientError with the last log lines if not in time."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    parts: tuple[tuple[str, str, Callable[[], bool]], ...] = (
        ("API server", "apiserver", partial(api_answers, home, settings)),
        ("gateway", "envoy", partial(gateway_answers, settings)),
        ("control plane", "engine", partial(installed, home, settings)),
        ("models", "node", partial(models_answer, home, settings)),
    )
    for what, log_name, answers in parts:
        while not answers():
            if time.monotonic() > deadline_s:
                tail = _tail(home.logs / f"{log_name}.log")
                raise TransientError(
                    f"the {what} did not answer within {START_TIMEOUT_S:.0f} s; its log ends with:\n{tail}"
                )
            time.sleep(_POLL_S)
        on_ready(what)


def api_answers(home: Home, settings: OneboxSettings) -> bool:
    """Whether the API server of this home is ready."""
    return _api_status(home, settings, "/readyz") == 200


def installed(home: Home, settings: OneboxSettings) -> bool:
    """Whether the engine has put everything in place that manifests of users refer to."""
    return _api_status(home, settings, "/api/v1/namespaces/ladle-system/configmaps/installed") == 200


def models_answer(home: Home, settings: OneboxSettings) -> bool:
    """Whether requests to models would be answered or held: no endpoint is left of a pod that an earlier stop ended."""
    status, body = _api_get(home, settings, f"/api/v1/endpoints?labelSelector={REVISION_SELECTOR}")
    return status == 200 and settled(json.loads(body)["items"])


def _api_status(home: Home, settings: OneboxSettings, path: str) -> int:
    return _api_get(home, settings, path)[0]


def _api_get(home: Home, settings: OneboxSettings, path: str) -> tuple[int, bytes]:
    token = next(iter(json.loads((home.pki / "tokens.json").read_text())))
    context = ssl.create_default_context(cafile=str(home.pki / "ca.crt"))
    connection = http.client.HTTPSConnection("127.0.0.1", settings.api_port, timeout=2, context=context)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def gateway_answers(settings: OneboxSettings) -> bool:
    """Whether Envoy answers requests on the public port; a 404 for an unknown host is an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", settings.gateway_port, timeout=2)
    try:
        connection.request("GET", "/", headers={"Host": "ready.ladle.invalid"})
        return connection.getresponse().status > 0
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tail(path: Path, *, lines: int = 15) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"


def stop(home: Home) -> int:
    """Stops everything started from this home, pods included; returns how many processes ran."""
    running = [process for process, _ in processes_of(home.root)]
    pid = supervisor_pid(home)
    supervisor = identify(pid) if pid else None
    if supervisor:
        end([supervisor], grace_s=STOP_TIMEOUT_S)
    kill_all(home, STOP_TIMEOUT_S)
    end([process for process, _ in processes_of(home.root)], grace_s=2.0)  # What a killed supervisor left.
    for record in home.components.glob("*.json"):
        record.unlink()
    return len(running)


def component_statuses(home: Home) -> tuple[ComponentStatus, ...]:
    """How each component of this home is, supervisor first."""
    pid = supervisor_pid(home)
    rows = [
        ComponentStatus(
            name="supervisor", purpose="restarts the others", pid=pid, restarts=0, memory_bytes=_memory(pid)
        )
    ]
    for component in read_components(home):
        recorded = read_record(home, component.name)
        alive = recorded[0].pid if recorded and recorded[0].alive() else None
        restarts = recorded[1] if recorded else 0
        rows.append(
            ComponentStatus(
                name=component.name,
                purpose=component.purpose,
                pid=alive,
                restarts=restarts,
                memory_bytes=_memory(alive),
            )
        )
    return tuple(rows)


def _memory(pid: int | None) -> int:
    return 0 if pid is None else proportional_memory_bytes(pid)
