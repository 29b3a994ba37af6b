"""Reads from the API what pods refer to: ConfigMaps, Secrets, and the mapping of images."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping

from controller.base.json import JsonView
from controller.kube.client import KubeClient
from controller.kube.errors import NotFound
from controller.kube.resources import CONFIG_MAPS, SECRETS
from onebox.node.environment import Files, referenced_objects
from onebox.node.images import (
    IMAGES_CONFIG_MAP,
    IMAGES_KEY,
    IMAGES_NAMESPACE,
    ImageCommands,
    parse_image_commands,
)
from onebox.node.spec import Pod, SourceKind


async def fetch_objects(client: KubeClient, pod: Pod) -> Mapping[tuple[SourceKind, str], Files | None]:
    """The ConfigMaps and Secrets that a pod names; None for each that is not there."""
    wanted = sorted(referenced_objects(pod))
    found = await asyncio.gather(*(_fetch(client, kind, pod.namespace, name) for kind, name in wanted))
    return dict(zip(wanted, found, strict=True))


async def _fetch(client: KubeClient, kind: SourceKind, namespace: str, name: str) -> Files | None:
    try:
        value = await client.get(SECRETS if kind is SourceKind.SECRET else CONFIG_MAPS, name, namespace)
    except NotFound:
        return None
    return secret_files(value) if kind is SourceKind.SECRET else config_map_files(value)


def secret_files(value: JsonView) -> Files:
    return {key: base64.b64decode(content) for key, content in (value.get("data") or {}).items()}


def config_map_files(value: JsonView) -> Files:
    texts = {key: text.encode() for key, text in (value.get("data") or {}).items()}
    binaries = {key: base64.b64decode(content) for key, content in (value.get("binaryData") or {}).items()}
    return texts | binaries


async def fetch_image_commands(client: KubeClient) -> ImageCommands:
    """What the ConfigMap for images maps; nothing where there is none."""
    try:
        value = await client.get(CONFIG_MAPS, IMAGES_CONFIG_MAP, IMAGES_NAMESPACE)
    except NotFound:
        return {}
    return parse_image_commands((value.get("data") or {}).get(IMAGES_KEY) or "")
