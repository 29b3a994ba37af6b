"""Services: default ports, addresses that nothing routes but everybody expects, validation; and Endpoints."""

from __future__ import annotations

from collections.abc import Iterator

from controller.base.errors import FieldError
from controller.base.json import JsonObject, JsonView
from onebox.apiserver.kinds.strategy import Strategy, World

_EXTERNAL = "ExternalName"
_HEADLESS = "None"


def _complete(service: JsonObject) -> None:
    spec = service.get("spec")
    if not isinstance(spec, dict):
        return
    for port in spec.get("ports") or ():
        if isinstance(port, dict) and "port" in port:
            port.setdefault("targetPort", port["port"])
    if spec.get("type") != _EXTERNAL:
        spec.setdefault("internalTrafficPolicy", "Cluster")


def _prepare(service: JsonObject, old: JsonView | None, world: World) -> None:
    spec = service.setdefault("spec", {})
    service.setdefault("status", {"loadBalancer": {}})
    if spec.get("type") == _EXTERNAL:
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            spec.pop(name, None)
        return
    before = (old or {}).get("spec") or {}
    address = spec.get("clusterIP") or before.get("clusterIP") or _free_address(world)
    spec["clusterIP"] = address
    spec.setdefault("clusterIPs", [address])
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")


def _free_address(world: World) -> str:
    """An address of Kubernetes' usual service range (10.96.0.0/12) that no other service has."""
    while True:
        address = f"10.{world.rng.randrange(96, 112)}.{world.rng.randrange(256)}.{world.rng.randrange(1, 255)}"
        if not world.is_address_taken(address):
            return address


def _validate(service: JsonView, old: JsonView | None) -> Iterator[FieldError]:
    spec = service.get("spec") or {}
    external = spec.get("type") == _EXTERNAL
    if external and not spec.get("externalName"):
        yield FieldError(field="spec.externalName", message="Required value", cause="FieldValueRequired")
    if not external and spec.get("clusterIP") != _HEADLESS and not spec.get("ports"):
        yield FieldError(field="spec.ports", message="Required value", cause="FieldValueRequired")
    yield from _validate_port_names(spec.get("ports") or [])
    before = (old or {}).get("spec") or {}
    if before.get("clusterIP") and not external and before["clusterIP"] != spec.get("clusterIP"):
        message = f'Invalid value: "{spec.get("clusterIP")}": field is immutable'
        yield FieldError(field="spec.clusterIP", message=message)


def _validate_port_names(ports: list[JsonView]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, port in enumerate(ports):
        name = port.get("name") or ""
        if not name and len(ports) > 1:
            yield FieldError(field=f"spec.ports[{index}].name", message="Required value", cause="FieldValueRequired")
        elif name in seen:
            message = f'Duplicate value: "{name}"'
            yield FieldError(field=f"spec.ports[{index}].name", message=message, cause="FieldValueDuplicate")
        seen.add(name)


SERVICE = Strategy(
    complete=_complete,
    prepare=_prepare,
    validate=_validate,
    fields=lambda service: {
        "spec.clusterIP": (service.get("spec") or {}).get("clusterIP", ""),
        "spec.type": (service.get("spec") or {}).get("type", ""),
    },
    selectable=("spec.clusterIP", "spec.type"),
    skeleton={"metadata": {}, "spec": {}, "status": {"loadBalancer": {}}},
)
ENDPOINTS = Strategy()
