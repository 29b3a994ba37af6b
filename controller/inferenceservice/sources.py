"""Where a component's models come from, as its manifest says it. (pure)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from controller.api.inferenceservice import (
    MODEL_DIRECTORY,
    ComponentSpec,
    Confidential,
    ExplainerSpec,
    ModelStorage,
    PredictorExtension,
    PredictorSpec,
)
from controller.api.validation_containers import STORAGE_URI_ENV
from controller.base.errors import UserError

INVALID_STORAGE: Final = "InvalidStorage"
"""Reason of a condition: no part of this cluster can fetch the model's source."""
PLACEHOLDER_SCHEME: Final = "<scheme-placeholder>://"
"""Stands before a path until a secret says which store, and which bucket of it; KServe's text."""
_CLAIM_SCHEME: Final = "pvc://"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    uri: str
    mount_path: str = MODEL_DIRECTORY
    store: ModelStorage | None = None
    """The `storage` field, if a secret describes the store."""

    @property
    def is_claim(self) -> bool:
        return self.uri.startswith(_CLAIM_SCHEME)

    @property
    def claim(self) -> tuple[str, str]:
        """Name of the claim and path inside of it; UserError InvalidStorage without a name."""
        name, _, path = self.uri.removeprefix(_CLAIM_SCHEME).partition("/")
        if not name:
            raise UserError(INVALID_STORAGE, f'storageUri "{self.uri}" must be pvc://CLAIM or pvc://CLAIM/PATH')
        return name, path.strip("/")


def sources_of(component: ComponentSpec) -> tuple[Source, ...]:
    """Where a component's models come from; () for a component without any. UserError for a storage without a path."""
    if component.storageUris:
        return tuple(Source(uri=entry.uri, mount_path=entry.mountPath) for entry in component.storageUris)
    extension = _extension(component)
    if extension is not None:
        uri = extension.storageUri or ""
        if extension.storage is not None and not uri:
            if not extension.storage.path:
                raise UserError(INVALID_STORAGE, "storage.path is missing; say where in the store the model is")
            uri = PLACEHOLDER_SCHEME + extension.storage.path.lstrip("/")
        return (Source(uri=uri, store=extension.storage),) if uri else ()
    value = next((v.value for item in component.containers for v in item.env if v.name == STORAGE_URI_ENV), None)
    return (Source(uri=value),) if value else ()


def confidential_of(component: ComponentSpec) -> Confidential | None:
    """What is said of an encrypted model; None for one that is not."""
    extension = _extension(component)
    confidential = extension.confidential if extension is not None else None
    return confidential if confidential is not None and confidential.enabled else None


def _extension(component: ComponentSpec) -> PredictorExtension | None:
    match component:
        case PredictorSpec(model=model):
            return model
        case ExplainerSpec(art=art):
            return art
    return None
