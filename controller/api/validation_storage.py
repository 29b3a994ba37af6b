"""Whether a component's model sources hold together. Which schemes can be fetched depends on the cluster, hence not here."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Final

from controller.api.field_errors import forbidden, invalid, required
from controller.api.inferenceservice import ComponentSpec, ExplainerSpec, PredictorExtension, PredictorSpec, StorageUri
from controller.api.validation_containers import STORAGE_URI_ENV
from controller.base.errors import FieldError

_KEY_BROKER_URI: Final = re.compile(r"kbs:///[a-zA-Z0-9_.-]+/[a-zA-Z0-9_.-]+/[a-zA-Z0-9_.-]+")


def validate_storage(component: ComponentSpec, path: str) -> Iterator[FieldError]:
    """All that is wrong with storageUri, storage and storageUris."""
    source = _extension(component)
    if source is not None:
        extension, where = source
        uri = extension.storageUri
        if uri is not None and not uri.strip():
            yield required(f"{path}.{where}.storageUri", "leave it out for a model without storage")
        if uri and extension.storage is not None and extension.storage.path:
            yield forbidden(
                f"{path}.{where}.storage.path", "storageUri is set as well; one of the two says where the model is"
            )
        if uri and component.storageUris:
            yield forbidden(f"{path}.storageUris", "storageUri is set as well; name all sources in storageUris")
        yield from _validate_confidential(extension, f"{path}.{where}")
    elif component.storageUris and any(v.name == STORAGE_URI_ENV for c in component.containers for v in c.env):
        yield forbidden(f"{path}.storageUris", f"{STORAGE_URI_ENV} is set as well; name all sources in storageUris")
    yield from _validate_uris(component.storageUris, f"{path}.storageUris")


def _extension(component: ComponentSpec) -> tuple[PredictorExtension, str] | None:
    match component:
        case PredictorSpec(model=model) if model is not None:
            return model, "model"
        case ExplainerSpec(art=art) if art is not None:
            return art, "art"
    return None


def _validate_confidential(extension: PredictorExtension, path: str) -> Iterator[FieldError]:
    confidential, uri = extension.confidential, extension.storageUri or ""
    if confidential is None or not confidential.enabled:
        return
    if not uri:
        yield required(f"{path}.storageUri", "an encrypted model is one that is fetched")
    resource = confidential.resourceId
    if resource and not _KEY_BROKER_URI.fullmatch(resource):
        yield invalid(f"{path}.confidential.resourceId", resource, "must have the form kbs:///<repo>/<type>/<tag>")


def _validate_uris(uris: list[StorageUri], path: str) -> Iterator[FieldError]:
    for position, entry in enumerate(uris):
        where = f"{path}[{position}]"
        if not entry.uri:
            yield required(f"{where}.uri")
        if not entry.mountPath.startswith("/") or posixpath.normpath(entry.mountPath) == "/":
            yield invalid(f"{where}.mountPath", entry.mountPath, "must be an absolute path below /")
        elif ".." in entry.mountPath.split("/"):
            yield invalid(f"{where}.mountPath", entry.mountPath, "must not contain '..'")
    fetched = [entry.mountPath for entry in uris if not entry.uri.startswith("pvc://")]
    mounted = [entry.mountPath for entry in uris if entry.uri.startswith("pvc://")]
    absolute = all(mount.startswith("/") for mount in fetched)
    if len(fetched) > 1 and absolute and posixpath.commonpath(fetched) == "/":
        yield invalid(path, ", ".join(fetched), "the mount paths must have a common parent other than /")
    for mount in sorted({mount for mount in mounted if mounted.count(mount) > 1}):
        yield invalid(path, mount, "two claims cannot be mounted at the same path")
