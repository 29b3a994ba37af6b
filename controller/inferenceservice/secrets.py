"""What the controller may know of secrets and service accounts: names, annotations, and settings that are no secrets. (pure)

Values leave this module only where they say how to reach a store (an endpoint, a region); keys and tokens are dropped as soon
as an object is parsed, so that no plan, child, log line or error can hold one. Containers get them by reference.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from controller.base.errors import UserError
from controller.base.json import JsonView

SETTING_KEYS: Final = frozenset(
    {
        "S3_ENDPOINT",
        "S3_USE_HTTPS",
        "AWS_DEFAULT_REGION",
        "S3_VERIFY_SSL",
        "awsAnonymousCredential",
        "S3_USER_VIRTUAL_BUCKET",
        "S3_USE_ACCELERATE",
        "AWS_CA_BUNDLE",
        "AWS_CA_BUNDLE_CONFIGMAP",
        "https-host",
    }
)
"""Keys of a secret whose values become plain variables, as KServe makes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreEntry:
    """One store of a storage secret: what its JSON says that is no credential."""

    type: str = ""
    bucket: str = ""
    ca_bundle_config_map: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretView:
    """A secret without its secrets."""

    name: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()
    settings: Mapping[str, str] = field(default_factory=dict)
    """Values of SETTING_KEYS that it has."""
    stores: Mapping[str, StoreEntry] = field(default_factory=dict)
    """Keys whose values are JSON objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountView:
    """A service account: its annotations, and the names of its secrets in order."""

    name: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Identities:
    """Service accounts and secrets of one namespace by name: None for one that is not there; absent if nobody looked."""

    namespace: str = ""
    accounts: Mapping[str, AccountView | None] = field(default_factory=dict)
    secrets: Mapping[str, SecretView | None] = field(default_factory=dict)
    complete: bool = False
    """Whether these are all of the namespace, so that an absent one is not there."""

    def lacks_account(self, name: str) -> bool:
        """Whether the service account is known not to be there."""
        return self.accounts.get(name) is None and (self.complete or name in self.accounts)

    def secret(self, name: str, wanted_by: str) -> SecretView | None:
        """The secret; None if nobody looked. UserError SecretNotFound if it is not there."""
        found = self.secrets.get(name)
        if found is None and (self.complete or name in self.secrets):
            message = f"there is no secret {name} in namespace {self.namespace}, which {wanted_by} names; create it"
            raise UserError("SecretNotFound", message)
        return found


def view_secret(manifest: JsonView) -> SecretView:
    """A secret as far as a plan may know it."""
    encoded: Mapping[str, Any] = manifest.get("data") or {}
    plain: Mapping[str, Any] = manifest.get("stringData") or {}  # Only in manifests that no API server has seen.
    values = {name: _decoded(value) for name, value in encoded.items()} | {
        name: str(value).encode() for name, value in plain.items()
    }
    meta = manifest["metadata"]
    return SecretView(
        name=meta["name"],
        annotations={name: str(value) for name, value in (meta.get("annotations") or {}).items()},
        keys=frozenset(values),
        settings={
            name: value.decode("utf-8", "replace").strip() for name, value in values.items() if name in SETTING_KEYS
        },
        stores={name: entry for name, value in values.items() if (entry := _store(value)) is not None},
    )


def view_account(manifest: JsonView) -> AccountView:
    """A service account as far as a plan may know it."""
    meta = manifest["metadata"]
    names = (reference.get("name") for reference in manifest.get("secrets") or ())
    return AccountView(
        name=meta["name"],
        annotations={name: str(value) for name, value in (meta.get("annotations") or {}).items()},
        secrets=tuple(name for name in names if name),
    )


def _decoded(value: Any) -> bytes:
    try:
        return base64.b64decode(str(value), validate=False)
    except (binascii.Error, ValueError):  # An API server would have refused it.
        return b""


def _store(value: bytes) -> StoreEntry | None:
    if not value.lstrip().startswith(b"{"):
        return None
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return StoreEntry(
        type=str(parsed.get("type") or ""),
        bucket=str(parsed.get("bucket") or ""),
        ca_bundle_config_map=str(parsed.get("cabundle_configmap") or ""),
    )
