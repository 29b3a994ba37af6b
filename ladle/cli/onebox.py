"""`ladle up`, `ladle down`, `ladle status`: a onebox on this machine."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.table import Table

from ladle.cli.console import fail, notes

if TYPE_CHECKING:
    from onebox.home import Home, OneboxSettings

HomeOption = Annotated[
    Optional[str],  # noqa: UP045 - typer reads this at run time.
    typer.Option("--home", metavar="DIR", help="Where this onebox lives. Default: $LADLE_HOME or ~/.ladle"),
]
PortOption = Annotated[Optional[int], typer.Option(min=1, max=65535)]  # noqa: UP045


def up(
    home: HomeOption = None,
    *,
    detach: Annotated[bool, typer.Option("--detach", help="Return when it answers, and leave it running")] = False,
    api_port: PortOption = None,
    gateway_port: PortOption = None,
) -> None:
    """Start a onebox: a Kubernetes API, Knative, Istio's gateway and KServe's controller on this machine."""
    from controller.base.errors import TransientError, UserError
    from onebox.home import Home
    from onebox.supervisor import supervisor_pid

    place = Home.locate(home)
    running = supervisor_pid(place)
    try:
        if running:
            settings = _same_settings(place, api_port, gateway_port)
            notes.print(f"already up (supervisor pid {running}); stop it with: ladle down{_home_flag(place)}")
        else:
            settings, running = _start(place, api_port, gateway_port)
        _wait(place, settings)
    except (UserError, TransientError) as error:
        raise fail(str(error)) from None
    _say_what_next(place, settings)
    if not detach:
        _stay(place, running)


def _same_settings(place: Home, api_port: int | None, gateway_port: int | None) -> OneboxSettings:
    from controller.base.errors import UserError

    settings = place.settings()
    for flag, asked, current in (
        ("--api-port", api_port, settings.api_port),
        ("--gateway-port", gateway_port, settings.gateway_port),
    ):
        if asked not in (None, current):
            raise UserError(
                "AlreadyUp",
                f"{place.root} is up with {flag} {current}; to change it run: ladle down{_home_flag(place)}",
            )
    return settings


def _start(place: Home, api_port: int | None, gateway_port: int | None) -> tuple[OneboxSettings, int]:
    from onebox.components import read_components
    from onebox.up import prepare, start_supervisor

    settings = prepare(place, api_port=api_port, gateway_port=gateway_port)
    notes.print(f"starting onebox in {place.root}")
    for component in read_components(place):
        notes.print(f"  {component.name:<14} {component.purpose}")
    return settings, start_supervisor(place)


def _wait(place: Home, settings: OneboxSettings) -> None:
    from onebox.up import wait_until_up

    started_s = time.monotonic()
    wait_until_up(
        place,
        settings,
        on_ready=lambda what: notes.print(f"  {what:<14} ready after {time.monotonic() - started_s:.1f} s"),
    )


def _say_what_next(place: Home, settings: OneboxSettings) -> None:
    notes.print(f"API      https://127.0.0.1:{settings.api_port}")
    notes.print(f"gateway  http://127.0.0.1:{settings.gateway_port}")
    notes.print(f"kubectl  export KUBECONFIG='{place.kubeconfig}'")


def _home_flag(place: Home) -> str:
    from onebox.home import Home

    return "" if place == Home.locate() else f" --home '{place.root}'"


def _stay(place: Home, supervisor: int) -> None:
    """Stays in the foreground until Ctrl-C or until somebody stops the onebox; Ctrl-C stops it."""
    from onebox.processes import identify, wait_for_exit
    from onebox.up import stop

    notes.print("running; Ctrl-C stops it")
    process = identify(supervisor)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # A service manager's stop is the same as Ctrl-C.
    try:
        while process and wait_for_exit([process], timeout_s=3600):
            continue
    except KeyboardInterrupt:
        notes.print("stopping")
        stop(place)


def down(home: HomeOption = None) -> None:
    """Stop everything started from this home, models included. What was stored stays."""
    from onebox.home import Home
    from onebox.up import stop

    place = Home.locate(home)
    ended = stop(place)
    notes.print(f"stopped {ended} processes" if ended else f"nothing runs from {place.root}")


def status(home: HomeOption = None) -> None:
    """Show what runs: components with their memory, and InferenceServices. Exit code 1 where the onebox is not up."""
    from controller.base.errors import UserError
    from onebox.home import Home
    from onebox.up import api_answers, component_statuses, metrics_url

    place = Home.locate(home)
    try:
        settings = place.settings()
    except UserError as error:
        raise fail(str(error)) from None
    table = Table("component", "pid", "restarts", "memory", "what it does", box=None, header_style="bold")
    rows = component_statuses(place)
    for row in rows:
        state = str(row.pid) if row.pid else "[red]down[/red]"
        table.add_row(row.name, state, str(row.restarts), f"{row.memory_bytes / 2**20:.0f} MB", row.purpose)
    notes.print(table)
    notes.print(f"metrics  {metrics_url(settings)}")
    if not api_answers(place, settings):
        raise fail(f"the API does not answer; start it with: ladle up{_home_flag(place)}; logs are in {place.logs}")
    _show_services(place.kubeconfig)


def _show_services(kubeconfig: Path) -> None:
    from ladle.sdk.client import Client, is_ready, reasons

    client = Client(kubeconfig)
    listing = client.request("GET", "/apis/serving.kserve.io/v1beta1/inferenceservices")
    if not listing["items"]:
        notes.print("no InferenceService yet; try: kubectl apply -f examples/iris/inferenceservice.yaml")
        return
    table = Table("namespace", "inferenceservice", "ready", "url or reason", box=None, header_style="bold")
    for service in listing["items"]:
        meta, ready = service["metadata"], is_ready(service)
        detail = service["status"]["url"] if ready else (reasons(service) or ["reconciling"])[0]
        table.add_row(meta["namespace"], meta["name"], "yes" if ready else "no", detail)
    notes.print(table)


def default_kubeconfig() -> Path | None:
    """The kubeconfig that verbs use: `$KUBECONFIG` where it is set, else that of the default onebox where it exists."""
    from onebox.home import Home

    if os.environ.get("KUBECONFIG"):
        return None
    ours = Home.locate().kubeconfig
    return ours if ours.exists() else None
