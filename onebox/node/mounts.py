"""Paths inside a container and where they really are on this machine. (pure)

A process of this node sees the machine's file system, so `/mnt/models` in its arguments and environment is rewritten to
the pod's own directory. A path is only rewritten where it stands as a path of its own: not `/mnt/models-2`, not the
`/mnt/models` in `s3://bucket/mnt/models`, but the one in `file:///mnt/models/iris`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from controller.base.errors import UserError
from onebox.node.environment import expand
from onebox.node.spec import Container, Pod, Volume

_BEFORE = r"(?:(?<![\w.~%/-])|(?<=file://))"
_AFTER = r"(?=/|$|[^\w.~%-])"
MOUNT_ERROR = "FailedMount"
"""Kubelet's reason for an event about a volume that cannot be mounted."""


def build_mount_paths(
    container: Container, volume_paths: Mapping[str, Path], variables: Mapping[str, str]
) -> dict[str, str]:
    """The machine's path of every mount path of a container; UserError for a volume or sub-path that cannot be."""
    paths = {}
    for mount in container.mounts:
        if mount.volume not in volume_paths:
            raise UserError(
                MOUNT_ERROR, f'volumeMounts[{mount.path}].name = "{mount.volume}", the pod has no such volume'
            )
        inside = expand(mount.sub_path_expr, variables) or mount.sub_path
        if os.path.isabs(inside) or ".." in Path(inside).parts:
            raise UserError(MOUNT_ERROR, f"volumeMounts[{mount.path}].subPath = {inside}, must stay inside the volume")
        path = mount.path.rstrip("/")
        if path:  # A volume at "/" would rewrite every path there is.
            paths[path] = str(volume_paths[mount.volume] / inside)
    return paths


class PathRewriter:
    """Replaces container paths by the machine's."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        self._paths = dict(paths)
        # Longest first: /mnt/models/extra, mounted below /mnt/models, has a place of its own.
        alternatives = "|".join(re.escape(path) for path in sorted(self._paths, key=len, reverse=True))
        self._pattern = re.compile(f"{_BEFORE}({alternatives}){_AFTER}") if alternatives else None

    def text(self, text: str) -> str:
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: self._paths[match[1]], text)

    def texts(self, texts: Iterable[str]) -> tuple[str, ...]:
        return tuple(map(self.text, texts))

    def values(self, variables: Mapping[str, str]) -> dict[str, str]:
        return {name: self.text(value) for name, value in variables.items()}


def build_volume_paths(pod: Pod, *, volumes: Path, claims: Path) -> dict[str, Path]:
    """Where each volume of the pod is: below `volumes`, or for a claim below `claims`/<namespace>, or on the machine.

    UserError for a kind of volume that this node does not have.
    """
    return {volume.name: _volume_path(pod, volume, volumes, claims) for volume in pod.volumes}


def _volume_path(pod: Pod, volume: Volume, volumes: Path, claims: Path) -> Path:
    if volume.unsupported:
        raise UserError(
            MOUNT_ERROR,
            f'volume "{volume.name}" is of kind {volume.unsupported}; this node has emptyDir, configMap, secret, projected, '
            "downwardAPI, hostPath and persistentVolumeClaim",
        )
    if volume.host_path:
        return Path(volume.host_path)
    return claims / pod.namespace / volume.claim if volume.claim else volumes / volume.name
