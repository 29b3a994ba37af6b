"""Whether the environment has what a model's requirements.txt asks for. Nothing is installed: that is the image's work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ladle.errors import BadModel

FILE = "requirements.txt"


def check_requirements(directory: Path) -> None:
    """BadModel that lists what `directory`'s requirements.txt asks for and the environment has not."""
    path = directory / FILE
    if not path.is_file():
        return
    missing = unmet(path.read_text(encoding="utf-8").splitlines(), _installed)
    if missing:
        raise BadModel(
            f"{path} asks for what the server's environment has not: {', '.join(missing)}; install it there: "
            f"pip install -r {path}"
        )


def unmet(lines: Iterable[str], installed: Callable[[str], str | None]) -> list[str]:
    """The requirements that are not met, each with what is there instead; options such as `--index-url` count for nothing."""
    found = []
    for line in lines:
        text = line.partition(" #")[0].strip()
        if not text or text.startswith(("#", "-")):
            continue
        requirement = _parsed(text)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        present = installed(requirement.name)
        if present is None:
            found.append(f"{requirement.name}{requirement.specifier} (not installed)")
        elif not requirement.specifier.contains(present, prereleases=True):
            found.append(f"{requirement.name}{requirement.specifier} ({present} is installed)")
    return found


def _parsed(text: str) -> Any:
    try:
        requirements = import_module("packaging.requirements")
    except ImportError:
        raise BadModel(f"checking {FILE} needs packaging in the server's environment: pip install packaging") from None
    try:
        return requirements.Requirement(text)
    except requirements.InvalidRequirement as error:
        raise BadModel(f"{FILE}: {text!r} is no requirement: {str(error).splitlines()[0]}") from None


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
