"""`ladle predict`, `ladle logs`: ask a model, and read what its server said."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from ladle.cli.console import fail, notes
from ladle.sdk.client import Client, predict_path

NamespaceOption = Annotated[Optional[str], typer.Option("--namespace", "-n")]  # noqa: UP045 - read by typer.
HomeOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--home", metavar="DIR", help="The onebox to ask. Default: $KUBECONFIG, $LADLE_HOME or ~/.ladle"),
]


def predict(
    name: str,
    *,
    data: Annotated[str, typer.Option("--data", "-d", help="The request: JSON, or @FILE, or @- for standard input")],
    namespace: NamespaceOption = None,
    home: HomeOption = None,
) -> None:
    """Send a request to an InferenceService through the gateway and print the answer."""
    body = _read_body(data)
    try:
        payload = json.loads(body)
    except json.JSONDecodeError as error:
        raise fail(f"the request is no JSON: {error}") from None
    client = _client(home)
    answer = client.send(client.get(name, namespace), predict_path(name, payload), body)
    sys.stdout.write(answer.body.decode(errors="replace").rstrip("\n") + "\n")
    if answer.status >= 400:
        raise fail(f"{name} answered with HTTP {answer.status}")


def _read_body(data: str) -> bytes:
    if not data.startswith("@"):
        return data.encode()
    if data == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise fail(f"cannot read {data[1:]}: {error.strerror}") from None


def _client(home: str | None) -> Client:
    from ladle.cli.onebox import default_kubeconfig

    if home is None:
        return Client(default_kubeconfig())
    from onebox.home import Home

    return Client(Home.locate(home).kubeconfig)


def logs(
    name: str,
    *,
    namespace: NamespaceOption = None,
    container: Annotated[str, typer.Option("--container", "-c")] = "kserve-container",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing what comes")] = False,
    tail: Annotated[int, typer.Option(help="Lines from the end of each log")] = 100,
    home: HomeOption = None,
) -> None:
    """Print the log of an InferenceService's pods, newest pod last."""
    client = _client(home)
    place = namespace or client.namespace
    client.get(name, place)
    pods = _pods(client, name, place)
    if not pods:
        notes.print(f"{name} has no pods now; with minReplicas 0 the next request starts one")
    for pod in pods[-1:] if follow else pods:
        notes.print(f"[dim]{pod}[/dim]")
        query = f"container={container}&tailLines={tail}&follow={str(follow).lower()}"
        for chunk in client.stream(f"/api/v1/namespaces/{place}/pods/{pod}/log?{query}"):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()


def _pods(client: Client, name: str, namespace: str) -> list[str]:
    selector = f"serving.kserve.io/inferenceservice%3D{name}"
    items: list[dict[str, Any]] = client.request(
        "GET", f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}"
    )["items"]
    items.sort(key=lambda pod: pod["metadata"].get("creationTimestamp", ""))
    return [pod["metadata"]["name"] for pod in items]
