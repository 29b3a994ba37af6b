"""Writes wire.json: `python -m onebox.apiserver.schemas.generate_wire DIR`, DIR holding k8s.io/api and k8s.io/apimachinery.

kubectl sends protobuf for what it creates by itself (`create namespace`, `auth can-i`). All that is kept of the .proto files
is which number stands for which field of which type, for the kinds that onebox serves. Run it again when a field is missing.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import orjson

_CORE, _META = "k8s.io.api.core.v1", "k8s.io.apimachinery.pkg.apis.meta.v1"
ROOTS = {
    _CORE: "Pod Service Endpoints ConfigMap Secret Namespace Node ServiceAccount Event",
    "k8s.io.api.apps.v1": "Deployment ReplicaSet",
    "k8s.io.api.autoscaling.v1": "Scale",
    "k8s.io.api.batch.v1": "Job",
    "k8s.io.api.coordination.v1": "Lease",
    "k8s.io.api.rbac.v1": "Role RoleBinding ClusterRole ClusterRoleBinding",
    "k8s.io.api.authorization.v1": "SelfSubjectAccessReview SubjectAccessReview SelfSubjectRulesReview",
    "k8s.io.api.authentication.v1": "SelfSubjectReview",
    _META: "DeleteOptions",
}
_MESSAGE = re.compile(r"^message (\w+) \{(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\s*(optional|repeated|map<(\w+), ([.\w]+)>)\s+(?:([.\w]+)\s+)?(\w+) = (\d+);", re.MULTILINE)
_SCALARS = frozenset({"string", "bytes", "bool", "int32", "int64", "uint32", "uint64", "double"})

Messages = dict[str, list[tuple[str, str, str, int]]]
"""Fields of each message by its full name: (repeated, map or "", type, name, number)."""


def main(root: Path) -> None:
    messages: Messages = {}
    for path in sorted(root.rglob("generated.proto")):
        messages |= _parse(path.read_text())
    wanted = [f"{package}.{name}" for package, names in ROOTS.items() for name in names.split()]
    kept: dict[str, Any] = {}
    while wanted:
        name = wanted.pop()
        if _short(name) in kept:
            continue
        # Alpha kinds that a field of a pod may refer to are left out: nothing here runs them.
        fields = messages.get(name, [])
        kept[_short(name)] = {str(number): _entry(kind, type_, field) for kind, type_, field, number in fields}
        wanted += [type_ for _, type_, _, _ in fields if type_ not in _SCALARS]
    Path(__file__).with_name("wire.json").write_bytes(orjson.dumps(kept, option=orjson.OPT_SORT_KEYS) + b"\n")


def _entry(kind: str, type_: str, field: str) -> list[str]:
    return [field, type_ if type_ in _SCALARS else _short(type_), *([kind] if kind else [])]


def _short(name: str) -> str:
    """A message's name as wire.json has it: unique among the kinds at hand with the last part of its package."""
    parts = name.split(".")
    return f"{parts[-3]}.{parts[-1]}" if parts[-2] == "v1" else parts[-1]


def _parse(text: str) -> Messages:
    text = re.sub(r"//[^\n]*", "", text)
    package = re.search(r"^package ([\w.]+);", text, re.MULTILINE)
    assert package is not None
    return {
        f"{package[1]}.{name}": [_parse_field(field, package[1]) for field in _FIELD.finditer(body)]
        for name, body in _MESSAGE.findall(text)
    }


def _parse_field(match: re.Match[str], package: str) -> tuple[str, str, str, int]:
    kind, _, map_type, plain_type, name, number = match.groups()
    type_ = map_type or plain_type
    if type_ not in _SCALARS:
        type_ = type_.lstrip(".") if "." in type_ else f"{package}.{type_}"
    return ("map" if map_type else "repeated" if kind == "repeated" else ""), type_, name, int(number)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
