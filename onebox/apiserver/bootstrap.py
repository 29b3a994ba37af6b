"""What must be there before the first request: namespaces and the definitions that come with Ladle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.resources import files

import orjson

from controller.base.json import JsonObject
from onebox.apiserver.objects.encoding import parse_object
from onebox.apiserver.objects.shaping import shape
from onebox.apiserver.objects.writing import Writer, Written
from onebox.apiserver.requests import FieldValidation, Target, WriteOptions
from onebox.apiserver.resources.crds import CRD_KEY
from onebox.apiserver.resources.registry import Registry
from onebox.apiserver.storage.records import Key
from onebox.apiserver.storage.store import Store

DIGEST_ANNOTATION = "onebox.ladle.dev/manifest-digest"
"""Says which manifest a definition was installed from, so that boots after the first compare 64 characters."""
NAMESPACES = ("default", "kube-system", "kube-public")
_OPTIONS = WriteOptions(manager="ladle", validation=FieldValidation.IGNORE)
_USER = "system:apiserver"


def install(store: Store, registry: Registry, writer: Writer) -> list[Written]:
    """Decides on all writes that a boot needs: none where the home was up to date."""
    written = [_install_namespace(registry, writer, name) for name in NAMESPACES if not _exists(store, name)]
    for manifest in _manifests():
        write = _install_definition(store, registry, writer, manifest)
        if write is not None:
            written.append(write)
    return written


def _exists(store: Store, namespace: str) -> bool:
    return store.latest(Key("namespaces", "", namespace)) is not None


def _install_namespace(registry: Registry, writer: Writer, name: str) -> Written:
    target = _target(registry, "namespaces")
    value: JsonObject = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    shape(value, target, _OPTIONS)
    return writer.create(target, value, _OPTIONS, user=_USER)


def _install_definition(store: Store, registry: Registry, writer: Writer, manifest: bytes) -> Written | None:
    digest = hashlib.sha256(manifest).hexdigest()
    value: JsonObject = orjson.loads(manifest)
    name = value["metadata"]["name"]
    record = store.latest(Key(CRD_KEY, "", name))
    annotations = {**(value["metadata"].get("annotations") or {}), DIGEST_ANNOTATION: digest}
    value["metadata"] = {**value["metadata"], "annotations": annotations}
    if record is not None and digest.encode() in record.data:
        return None
    target = _target(registry, CRD_KEY, name if record is not None else "")
    shape(value, target, _OPTIONS)
    if record is None:
        return writer.create(target, value, _OPTIONS, user=_USER)
    stored = parse_object(record, target)
    value["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"]
    return writer.update(target, record, value, _OPTIONS, user=_USER)


def _target(registry: Registry, key: str, name: str = "") -> Target:
    resource = registry.by_key(key)
    assert resource is not None
    return Target(resource=resource, version=resource.versions[resource.storage], name=name)


def _manifests() -> Iterator[bytes]:
    directory = files("manifests").joinpath("crds")
    for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".json"):
            yield entry.read_bytes()
