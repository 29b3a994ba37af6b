"""Volumes of a pod spec and their mounts: which sources a user may name, and where they may go."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from controller.base.errors import FieldError
from controller.base.json import JsonView
from onebox.knative.admission import errors
from onebox.knative.admission.words import is_dns_1123_label
from onebox.knative.settings.features import Feature, Features

WRITABLE_SOURCES = ("emptyDir", "persistentVolumeClaim", "ephemeral")
"""Volumes that a container may write to; all other mounts are read-only."""
_RESERVED_PATHS = frozenset({"/", "/dev", "/dev/log"})
_ALWAYS_PERMITTED = ("secret", "configMap", "projected")
_GATED: Mapping[str, tuple[Feature, str]] = {
    "emptyDir": (Feature.EMPTY_DIR, "EmptyDir"),
    "persistentVolumeClaim": (Feature.VOLUME_CLAIM, "Persistent volume claim"),
    "hostPath": (Feature.HOST_PATH, "HostPath"),
    "csi": (Feature.CSI, "CSI"),
    "ephemeral": (Feature.EPHEMERAL, "Ephemeral"),
    "image": (Feature.IMAGE_VOLUME, "Image"),
}
_PROJECTIONS = ("secret", "configMap", "serviceAccountToken", "downwardAPI")
_MOUNT_FIELDS = frozenset({"name", "readOnly", "mountPath", "subPath", "mountPropagation"})
_PROPAGATIONS = ("None", "HostToContainer")

Volumes = Mapping[str, JsonView]
"""Volumes by name."""


def check_volumes(
    volumes: Sequence[JsonView], mounted: frozenset[str], path: str, features: Features
) -> Iterator[FieldError]:
    """Each volume has a name of its own, one permitted source, and somebody who mounts it."""
    seen: set[str] = set()
    for index, volume in enumerate(volumes):
        at, name = f"{path}[{index}]", volume.get("name", "")
        if name in seen:
            yield FieldError(field=f"{at}.name", message=f'duplicate volume name "{name}"', cause="FieldValueDuplicate")
        seen.add(name)
        if name not in mounted:
            yield errors.generic(f"{at}.name", f'volume with name "{name}" not mounted')
        if not name:
            yield errors.missing(f"{at}.name")
        elif not is_dns_1123_label(name):
            yield errors.invalid(f"{at}.name", name)
        yield from _check_source(volume, at, features)


def _check_source(volume: JsonView, path: str, features: Features) -> Iterator[FieldError]:
    found = [key for key, value in volume.items() if key != "name" and value is not None]
    for source in found:
        if source in _ALWAYS_PERMITTED:
            continue
        if source not in _GATED:
            yield errors.forbidden(f"{path}.{source}")
        elif not features.enabled(_GATED[source][0]):
            feature, word = _GATED[source]
            found_one = f"but found {word} volume {volume.get('name', '')} ({feature} in config-features)"
            yield errors.generic(f"{path}.{source}", f"{word} volume support is disabled, {found_one}")
    permitted = [*_ALWAYS_PERMITTED, *(source for source, (feature, _) in _GATED.items() if features.enabled(feature))]
    yield from errors.exactly_one(path, found, permitted)
    yield from _check_contents(volume, path, features)


def _check_contents(volume: JsonView, path: str, features: Features) -> Iterator[FieldError]:
    for source in ("secret", "configMap"):
        yield from _check_items((volume.get(source) or {}).get("items") or [], f"{path}.{source}")
    for index, projection in enumerate((volume.get("projected") or {}).get("sources") or []):
        yield from _check_projection(projection, f"{path}.projected[{index}]")
    medium = (volume.get("emptyDir") or {}).get("medium", "")
    if medium not in ("", "Memory"):
        yield errors.invalid(f"{path}.emptyDir.medium", medium)
    claim = volume.get("persistentVolumeClaim")
    if claim and not claim.get("readOnly") and not features.enabled(Feature.VOLUME_CLAIM_WRITE):
        name = claim.get("claimName", "")
        yield errors.generic(
            f"{path}.persistentVolumeClaim",
            f"Persistent volume write support is disabled, but found persistent volume claim {name} that is not read-only",
        )


def _check_projection(projection: JsonView, path: str) -> Iterator[FieldError]:
    found = [key for key in _PROJECTIONS if projection.get(key) is not None]
    yield from errors.exactly_one(path, found, _PROJECTIONS)
    for source in ("secret", "configMap"):
        if (reference := projection.get(source)) is None:
            continue
        if not reference.get("name"):
            yield errors.missing(f"{path}.{source}.name")
        yield from _check_items(reference.get("items") or [], f"{path}.{source}")
    token = projection.get("serviceAccountToken")
    if token is not None and not token.get("path"):
        yield errors.missing(f"{path}.serviceAccountToken.path")


def _check_items(items: Sequence[Mapping[str, Any]], path: str) -> Iterator[FieldError]:
    for index, item in enumerate(items):
        for field in ("key", "path"):
            if not item.get(field):
                yield errors.missing(f"{path}.items[{index}].{field}")


def check_mounts(mounts: Sequence[JsonView], volumes: Volumes, path: str, features: Features) -> Iterator[FieldError]:
    """Each mount names a volume and a place of its own, and writes only where it may."""
    taken: set[str] = set()
    for index, mount in enumerate(mounts):
        at = f"{path}[{index}]"
        for field in sorted(set(mount) - _MOUNT_FIELDS):
            yield errors.forbidden(f"{at}.{field}")
        volume = volumes.get(mount.get("name", ""))
        if volume is None:
            yield errors.generic(f"{at}.name", "volumeMount has no matching volume")
        yield from _check_mount_path(mount.get("mountPath", ""), f"{at}.mountPath", taken)
        yield from _check_read_only(mount, volume or {}, f"{at}.readOnly")
        yield from _check_propagation(mount, f"{at}.mountPropagation", features)


def _check_mount_path(mount_path: str, path: str, taken: set[str]) -> Iterator[FieldError]:
    clean = posixpath.normpath(mount_path) if mount_path else ""
    if not mount_path:
        yield errors.missing(path)
    elif clean in _RESERVED_PATHS:
        yield errors.generic(path, f'mountPath "{clean}" is a reserved path')
    elif not mount_path.startswith("/"):
        yield errors.invalid(path, mount_path)
    elif clean in taken:
        yield errors.invalid(path, f'"{mount_path}" must be unique')
    taken.add(clean)


def _check_read_only(mount: JsonView, volume: JsonView, path: str) -> Iterator[FieldError]:
    if mount.get("readOnly"):
        return
    if volume and not any(volume.get(source) is not None for source in WRITABLE_SOURCES):
        yield errors.generic(path, "volume mount should be readOnly for this type of volume")
    if (volume.get("persistentVolumeClaim") or {}).get("readOnly"):
        yield errors.generic(path, "volume is readOnly but volume mount is not")


def _check_propagation(mount: JsonView, path: str, features: Features) -> Iterator[FieldError]:
    propagation = mount.get("mountPropagation")
    if propagation is None:
        return
    if not features.enabled(Feature.MOUNT_PROPAGATION):
        yield errors.generic(
            path,
            "Volume Mount Propagation support is disabled, but found volume mount "
            f"{mount.get('name', '')} with mount propagation",
        )
    if propagation not in _PROPAGATIONS:
        yield errors.generic(path, "mount propagation should be set to None or HostToContainer")
