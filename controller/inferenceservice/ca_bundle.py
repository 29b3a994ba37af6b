"""Certificate authorities that every storage initializer trusts beside the public ones (spec/kserve.md 2.1). (pure)

`storageInitializer.caBundleConfigMapName` names a config map in KServe's namespace. Pods see only their own namespace, so its
one key is copied into a config map there, which all InferenceServices of the namespace share; hence it has no owner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from controller.base.errors import UserError
from controller.kube.resources import CONFIG_MAPS
from controller.reconcile.plan import Child

COPY_NAME: Final = "global-ca-bundle"
_FILE: Final = "cabundle.crt"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaBundle:
    config_map: str
    """What the pods of the namespace mount."""
    copied_from: str = ""
    """The config map that it is a copy of; "" for the original itself."""
    content: str = ""
    """Certificates in PEM; "" where the original is missing or has none."""


def ca_bundle_for(
    namespace: str, name: str, *, kserve_namespace: str, data: Mapping[str, str] | None
) -> CaBundle | None:
    """The authorities for pods of `namespace`; `data` is the original's. None where the settings name none."""
    if not name:
        return None
    if namespace == kserve_namespace:
        return CaBundle(config_map=name)
    return CaBundle(config_map=COPY_NAME, copied_from=f"{kserve_namespace}/{name}", content=(data or {}).get(_FILE, ""))


def build_ca_bundle(bundle: CaBundle, namespace: str) -> list[Child]:
    """The copy in this namespace; UserError CaBundleNotFound where there is nothing to copy."""
    if not bundle.copied_from:
        return []
    if not bundle.content:
        message = (
            f"config map {bundle.copied_from}, which storageInitializer.caBundleConfigMapName names, does not exist or has "
            f"no key {_FILE}"
        )
        raise UserError("CaBundleNotFound", message)
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": bundle.config_map, "namespace": namespace},
        "data": {_FILE: bundle.content},
    }
    return [Child(resource=CONFIG_MAPS, manifest=manifest)]
