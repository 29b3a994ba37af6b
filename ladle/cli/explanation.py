"""`ladle explain-runtime`: which runtimes were considered for a manifest, why each was refused, and why one won."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.console import Console
from rich.table import Table

from ladle.cli.console import fail, notes
from ladle.cli.manifests import FilesOption, NamespaceOption, read_given, read_objects

if TYPE_CHECKING:
    from controller.inferenceservice.explanation import Explanation
    from controller.inferenceservice.runtimes import Selection


def explain_runtime(
    filename: FilesOption,
    *,
    namespace: NamespaceOption = "default",
    existing: Annotated[
        Optional[list[Path]],  # noqa: UP045 - typer reads this at run time.
        typer.Option(
            "--with", help="The cluster's runtimes and settings; without runtimes, those that `ladle up` installs"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON")] = False,
) -> None:
    """Say which runtimes were considered for these InferenceServices, and why one was taken; exit code 1 where none is."""
    from controller.base.errors import UserError
    from controller.inferenceservice.explanation import explain_runtimes

    try:
        explanations = explain_runtimes(
            read_given(filename), existing=read_objects(existing or []), namespace=namespace
        )
    except UserError as error:
        raise fail(f"{error.subject}: {error}" if error.subject else str(error)) from None
    if not explanations:
        raise fail("no InferenceService among these objects")
    if as_json:
        sys.stdout.write(json.dumps([item.to_json() for item in explanations], indent=1) + "\n")
    else:
        for item in explanations:
            _print(item)
    if any(item.selection is not None and item.selection.choice is None for item in explanations):
        raise typer.Exit(1)


def _print(explanation: Explanation) -> None:
    name, selection = f"{explanation.namespace}/{explanation.name}", explanation.selection
    if selection is None:
        sys.stdout.write(f"{name}: its predictor has containers of its own and needs no runtime\n")
        return
    sys.stdout.write(f"{name}: {_headline(selection)}\n")
    table = Table(box=None, pad_edge=False)
    for title in ("RUNTIME", "SCOPE", "VERDICT"):
        table.add_column(title, overflow="fold")
    for item in selection.considered:
        scope = "cluster" if item.runtime.is_cluster_wide else "namespace"
        # Told apart by words, not by colours: this goes into files and through pipes.
        table.add_row(item.runtime.metadata.name, scope, _plain(item.against) or "taken")
    width = notes.width if sys.stdout.isatty() else _WIDE
    Console(file=sys.stdout, highlight=False, width=width).print(table)


_WIDE = 1000
"""Columns of a table that goes to a program: no line is folded."""


def _headline(selection: Selection) -> str:
    if selection.choice is None:
        return str(selection.refusal)
    choice = selection.choice
    line = f"{selection.wanted} gets {choice.runtime.kind} {choice.runtime.metadata.name}, protocol {choice.protocol}"
    missing = f"\nIt cannot run here: {choice.missing}" if choice.missing else ""
    return f"{line}: {selection.why}{missing}"


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
