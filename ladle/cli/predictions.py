"""`ladle predict`, `ladle logs`: ask a model, and read what its server said."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from ladle.cli.console import fail, notes
from ladle.sdk.client import ApiError, Client, predict_path

SERVER = "kserve-container"
"""The container of the model server, in KServe's pods."""

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
    answer = client.send(_service(client, name, namespace), predict_path(name, payload), body)
    sys.stdout.write(answer.body.decode(errors="replace").rstrip("\n") + "\n")
    if answer.status >= 400:
        raise fail(f"{name} answered with HTTP {answer.status}")


def _service(client: Client, name: str, namespace: str | None) -> dict[str, Any]:
    """The InferenceService; where there is none of this name, a failure that says which there are."""
    try:
        return client.get(name, namespace)
    except ApiError as error:
        if error.status != http.client.NOT_FOUND:
            raise
    place = namespace or client.namespace
    others = ", ".join(sorted(item["metadata"]["name"] for item in client.list(place)))
    there = (
        f"there are: {others}" if others else "there is none; -n NAMESPACE looks elsewhere, `ladle status` lists all"
    )
    raise fail(f"no InferenceService {name} in namespace {place}; {there}")


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
    container: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--container", "-c", help="Default: the model server, or what the pod still waits for"),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing what comes")] = False,
    tail: Annotated[int, typer.Option(help="Lines from the end of each log")] = 100,
    home: HomeOption = None,
) -> None:
    """Print the log of an InferenceService's pods, newest pod last."""
    client = _client(home)
    place = namespace or client.namespace
    _service(client, name, place)
    pods = _pods(client, name, place)
    if not pods:
        notes.print(f"{name} has no pods now; with minReplicas 0 the next request starts one")
    for pod in pods[-1:] if follow else pods:
        pod_name, source = pod["metadata"]["name"], container or talking_container(pod)
        notes.print(f"[dim]{pod_name}{'' if source == SERVER else f' ({source})'}[/dim]")
        query = f"container={source}&tailLines={tail}&follow={str(follow).lower()}"
        for chunk in client.stream(f"/api/v1/namespaces/{place}/pods/{pod_name}/log?{query}"):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()


def talking_container(pod: Mapping[str, Any]) -> str:
    """Whose log says how far the pod is: the init container that has begun and not succeeded, else the model server."""
    for container in pod.get("status", {}).get("initContainerStatuses", ()):
        state = container.get("state", {})
        if state.get("terminated", {}).get("exitCode") == 0:
            continue
        begun = "running" in state or "terminated" in state or "terminated" in container.get("lastState", {})
        return str(container["name"]) if begun else SERVER
    return SERVER


def _pods(client: Client, name: str, namespace: str) -> list[dict[str, Any]]:
    selector = f"serving.kserve.io/inferenceservice%3D{name}"
    items: list[dict[str, Any]] = client.request(
        "GET", f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}"
    )["items"]
    return sorted(items, key=lambda pod: pod["metadata"].get("creationTimestamp", ""))
