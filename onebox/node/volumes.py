"""Directories and files of a pod's volumes.

`plan_files` decides what a volume holds; `materialise` writes it, and may be repeated: what is there already stays, files
from ConfigMaps and Secrets are replaced in one step each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from controller.base.errors import UserError
from onebox.home import write_atomically
from onebox.node.environment import Surroundings, field_value
from onebox.node.mounts import MOUNT_ERROR
from onebox.node.spec import FileSource, KeyFile, Pod, SourceKind, Volume

_OWNER_ONLY = 0o700
"""Secrets are for the owner alone whatever mode they ask for: there are no containers around other users here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeFile:
    """A file of a volume, at `path` relative to it."""

    path: str
    content: bytes
    mode: int


def plan_files(pod: Pod, volume: Volume, around: Surroundings) -> tuple[VolumeFile, ...]:
    """The files that a volume is made of; UserError where an object, or a key of one, is missing and not optional."""
    return tuple(file for source in volume.sources for file in _files(pod, volume, source, around))


def _files(pod: Pod, volume: Volume, source: FileSource, around: Surroundings) -> Iterator[VolumeFile]:
    if source.kind is SourceKind.FIELD:
        for item in source.items:
            yield _file(volume, source, item, field_value(pod, item.key).encode())
        return
    files = around.objects.get((source.kind, source.name))
    if files is None:
        if source.optional:
            return
        raise _failed(volume, f'{source.kind} "{source.name}" not found')
    for item in source.items or tuple(KeyFile(key=key, path=key) for key in files):
        if item.key in files:
            yield _file(volume, source, item, files[item.key])
        elif not source.optional:
            raise _failed(volume, f"{source.kind} references non-existent config key: {item.key}")


def _file(volume: Volume, source: FileSource, item: KeyFile, content: bytes) -> VolumeFile:
    path = PurePosixPath(item.path)
    if path.is_absolute() or ".." in path.parts:
        raise _failed(volume, f"path {item.path} must stay inside the volume")
    mode = volume.mode if item.mode is None else item.mode
    if source.kind is SourceKind.SECRET:
        mode &= _OWNER_ONLY
    return VolumeFile(path=item.path, content=content, mode=mode)


def _failed(volume: Volume, why: str) -> UserError:
    return UserError(MOUNT_ERROR, f'MountVolume.SetUp failed for volume "{volume.name}" : {why}')


def materialise(pod: Pod, paths: Mapping[str, Path], around: Surroundings) -> None:
    """Makes every volume of the pod be there; UserError where one cannot."""
    for volume in pod.volumes:
        path = paths[volume.name]
        if volume.host_path:
            _check_host_path(volume, path)
            continue
        path.mkdir(parents=True, exist_ok=True)
        for file in plan_files(pod, volume, around):
            _write(path / file.path, file)


def _check_host_path(volume: Volume, path: Path) -> None:
    match volume.host_path_type:
        case "DirectoryOrCreate":
            path.mkdir(parents=True, exist_ok=True)
        case "FileOrCreate":
            path.touch(exist_ok=True)
        case _ if not path.exists():
            raise _failed(volume, f"hostPath {path} is not there")


def _write(path: Path, file: VolumeFile) -> None:
    try:
        if path.read_bytes() == file.content and path.stat().st_mode & 0o777 == file.mode:
            return
    except OSError:
        pass
    write_atomically(path, file.content, mode=file.mode)
