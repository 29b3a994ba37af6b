"""Which file in a directory is the model, and of what kind. Endings are promises; what counts is inside."""

from __future__ import annotations

import zipfile
from pathlib import Path

from ladle.errors import BadModel
from ladle.server.model_files import find_model_file
from runtimes.pytorchserver.program import Kind
from runtimes.version_folders import newest_version

EXTENSIONS = (".pt", ".pth", ".pt2")
_HOW = (
    "save the model with torch.jit.save (.pt) or torch.export.save (.pt2), "
    "or its state_dict() with torch.save beside a .py file with its class"
)
_LEGACY_PICKLE = b"\x80\x02"
"""How torch.save's files of before 2020 begin, and those of _use_new_zipfile_serialization=False."""


def model_folder(directory: Path) -> Path:
    """Where the model's files are, given its directory, one of its versions or its file."""
    return directory.parent if directory.is_file() else newest_version(directory, EXTENSIONS)


def find_archive(directory: Path) -> tuple[Path, Kind]:
    """The only model file, in the directory or its newest version folder, and what is in it; BadModel says what to do."""
    path = find_model_file(newest_version(directory, EXTENSIONS), EXTENSIONS)
    return path, kind_of(path)


def kind_of(path: Path) -> Kind:
    """What the file holds; BadModel where that cannot be served."""
    with path.open("rb") as file:
        start = file.read(len(_LEGACY_PICKLE))
    if start == _LEGACY_PICKLE:
        return Kind.STATE_DICT
    if not zipfile.is_zipfile(path):
        raise BadModel(f"{path.name} is no file of PyTorch, or it is cut off; {_HOW}")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return decide_kind(path.name, names)


def decide_kind(file_name: str, names: list[str]) -> Kind:
    """By the members of the archive; all but old export archives have them in a folder. (pure)"""
    inner = {name.partition("/")[2] for name in names}
    if any(name.startswith("data/aotinductor/") for name in inner) and "models/model.json" not in inner:
        raise BadModel(
            f"{file_name} holds native code that was compiled by AOTInductor, which is not served here; {_HOW}"
        )
    if "archive_format" in inner or "serialized_exported_program.json" in names:
        return Kind.EXPORT
    if "constants.pkl" in inner:
        return Kind.TORCHSCRIPT
    if "data.pkl" in inner:
        return Kind.STATE_DICT
    raise BadModel(f"{file_name} is an archive, but none that PyTorch wrote; {_HOW}")


def find_class_file(directory: Path) -> Path | None:
    """The only .py file in the directory; None for none, BadModel for several."""
    found = sorted(directory.glob("*.py"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise BadModel(
            f"more than one .py file in {directory}, only the one with the model's class is allowed: {names}"
        )
    return found[0] if found else None
