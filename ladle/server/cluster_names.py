"""Which host names only Kubernetes' DNS would answer for. On one machine the gateway does (docs/decisions/0015)."""

from __future__ import annotations

import ipaddress

_CLUSTER_SUFFIXES = (".svc", ".svc.cluster.local")


def is_cluster_name(name: str) -> bool:
    """Whether Kubernetes' DNS would answer for it: NAME.NAMESPACE, and that with .svc or .svc.cluster.local behind."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.endswith(_CLUSTER_SUFFIXES) or name.count(".") == 1
    return False
