"""Puts into a new onebox what manifests of users refer to: namespaces, settings of Knative and KServe, gateways, runtimes.

It runs at each start of the engine. What is there already and unchanged is not written again; what a user added to these
objects stays, since server-side apply only touches the fields that the shipped manifests name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.resources import files

import yaml

from controller.base.json import JsonObject
from controller.base.logging import get_logger
from controller.kube.client import KubeClient
from controller.kube.errors import NotFound, Unavailable
from controller.kube.resources import resource_type_of
from controller.reconcile.diff import differs

log = get_logger(__name__)

FIELD_MANAGER = "ladle-install"
MARKER = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "installed", "namespace": "ladle-system"},
    "data": {"by": FIELD_MANAGER},
}
"""Written last: `ladle up` waits for it."""
_UP_TIMEOUT_S = 60.0
"""As long as `ladle up` waits for everything."""
_UP_RETRY_S = 0.05
"""How often an API server that is not up yet is asked; it needs half a second. A guess."""
_FOLDERS = ("onebox", "runtimes")


def shipped_objects() -> Iterator[JsonObject]:
    """Every object of manifests/onebox and manifests/runtimes, in the order of the file names."""
    for folder in _FOLDERS:
        for file in sorted(files("manifests").joinpath(folder).iterdir(), key=lambda entry: entry.name):
            if file.name.endswith(".yaml"):
                yield from filter(
                    None, yaml.load_all(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
                )


async def install_once_up(client: KubeClient) -> None:
    """`install`, as soon as the API server answers: both start at the same time. TimeoutError where it never does."""
    async with asyncio.timeout(_UP_TIMEOUT_S):
        while True:
            try:
                await install(client)
                return
            except Unavailable:
                await asyncio.sleep(_UP_RETRY_S)


async def install(client: KubeClient) -> None:
    """Brings every shipped object to its shipped state; writes nothing where all is in place."""
    for manifest in [*shipped_objects(), MARKER]:
        await _ensure(client, manifest)


async def _ensure(client: KubeClient, manifest: JsonObject) -> None:
    resource = resource_type_of(manifest["apiVersion"], manifest["kind"])
    name, namespace = manifest["metadata"]["name"], manifest["metadata"].get("namespace")
    try:
        live = await client.get(resource, name, namespace)
    except NotFound:
        live = None
    if live is None or differs(manifest, live, field_manager=FIELD_MANAGER):
        await client.apply(resource, manifest, field_manager=FIELD_MANAGER)
        log.info("installed", kind=manifest["kind"], name=name)
