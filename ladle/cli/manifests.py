"""`ladle render`, `ladle validate`: what the controller and admission would do, offline, with the same pure functions."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
import yaml

from ladle.cli.console import fail, notes

_SUFFIXES = (".yaml", ".yml", ".json")
FilesOption = Annotated[
    list[Path],
    typer.Option("--filename", "-f", help="Manifests: files or folders of YAML or JSON; - for standard input"),
]
NamespaceOption = Annotated[str, typer.Option("--namespace", "-n", help="Where objects without a namespace would go")]


def render(
    filename: FilesOption,
    *,
    namespace: NamespaceOption = "default",
    existing: Annotated[
        Optional[list[Path]],  # noqa: UP045 - typer reads this at run time.
        typer.Option(
            "--with",
            help="Objects that exist already: settings, runtimes, secrets, children and pods with their status; "
            "what `kubectl get -o yaml` prints",
        ),
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Also print the InferenceServices with their status")
    ] = False,
) -> None:
    """Print what the controller would write for these manifests: now, with the objects of --with; else once all is ready."""
    from controller.base.errors import UserError
    from controller.inferenceservice.forecast import render_once_ready
    from controller.inferenceservice.offline import render as render_offline

    objects, world = read_given(filename), read_objects(existing or [])
    try:
        if world:
            rendered = render_offline(objects, existing=world, namespace=namespace, with_status=status)
        else:
            rendered = render_once_ready(objects, namespace=namespace, with_status=status)
    except UserError as error:
        raise fail(f"{error.subject}: {error}" if error.subject else str(error)) from None
    if rendered:
        sys.stdout.write(yaml.safe_dump_all(rendered, sort_keys=False))
    else:
        kinds = ", ".join(sorted({str(item.get("kind")) for item in objects}))
        notes.print(f"nothing is made of these objects ({kinds}); with --status, those that have one show it")


def validate(
    filename: FilesOption,
    *,
    namespace: NamespaceOption = "default",
    old: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--old", help="The stored object that the one of its kind and name would replace"),
    ] = None,
    existing: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option("--with", help="Objects that exist already: settings, runtimes, and what these would replace"),
    ] = None,
    defaults: Annotated[bool, typer.Option("--defaults", help="Print the objects as they would be stored")] = False,
) -> None:
    """Say what admission would say, a line for each object; exit code 1 where one is refused."""
    from controller.base.errors import UserError
    from controller.inferenceservice.offline_admission import validate as validate_offline

    objects, world = read_given(filename), read_objects(existing or [])
    stored = _stored(old, objects) if old else None
    try:
        verdicts = list(validate_offline(objects, existing=world, old=stored, namespace=namespace))
    except UserError as error:
        raise fail(str(error)) from None
    if defaults:
        sys.stdout.write(
            yaml.safe_dump_all([v.defaulted for v in verdicts if v.defaulted is not None], sort_keys=False)
        )
    for verdict in verdicts:
        (sys.stderr if defaults else sys.stdout).write(f"{verdict}\n")
    if any(verdict.errors for verdict in verdicts):
        raise typer.Exit(1)


def _stored(path: Path, objects: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The one object of `path`, which one of `objects` would replace."""
    stored = read_objects([path])
    if len(stored) != 1:
        raise fail(f"--old {path}: must hold one object, the stored one; it holds {len(stored)}")
    wanted = _identity(stored[0])
    if all(_identity(item) != wanted for item in objects):
        raise fail(
            f"--old {path}: it is {wanted}, which none of these would replace: {', '.join(map(_identity, objects))}"
        )
    return stored[0]


def _identity(item: dict[str, Any]) -> str:
    return f"{item['kind']}/{(item.get('metadata') or {}).get('name')}"


def read_given(paths: list[Path]) -> list[dict[str, Any]]:
    """Every object in these files; none at all ends the command."""
    objects = read_objects(paths)
    if not objects:
        raise fail(f"{', '.join(map(str, paths))}: no object in it")
    return objects


def read_objects(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Every object in these files and folders, lists taken apart; a failure to read them ends the command."""
    return [item for path in paths for file in _files(path) for item in _objects(file)]


def _files(path: Path) -> list[Path]:
    """The file, or the manifests right in the folder, as kubectl takes them."""
    return sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES) if path.is_dir() else [path]


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
        documents = [document for document in yaml.safe_load_all(text) if document]
    except OSError as error:
        raise fail(f"cannot read {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise fail(f"{path} is no YAML: {error}") from None
    for document in documents:
        if not isinstance(document, dict) or "kind" not in document:
            raise fail(f"{path}: a Kubernetes object has apiVersion, kind and metadata; this has no kind")
        yield from document["items"] if document["kind"].endswith("List") else [document]
