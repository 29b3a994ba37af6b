"""How the command line speaks: results on stdout, everything else on stderr, failures in one line and exit code 1."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer
from rich.console import Console

from ladle.sdk.client import ApiError, NotReady
from ladle.sdk.kubeconfig import KubeconfigError

notes = Console(stderr=True, highlight=False, soft_wrap=True)
"""For people: progress, tables, hints."""


def fail(message: str) -> typer.Exit:
    """Says why on stderr; `raise fail(…)` ends the command with exit code 1."""
    notes.print(f"[red]ladle:[/red] {_plain(message)}")
    return typer.Exit(1)


def _plain(message: str) -> str:
    return message.replace("[", r"\[")  # Messages hold JSON and field paths, which are no markup.


@contextlib.contextmanager
def failures_as_messages() -> Iterator[None]:
    """Turns the failures that a user can do something about into a message; a bug keeps its traceback."""
    try:
        yield
    except (ApiError, NotReady, KubeconfigError) as error:
        fail(str(error))
        raise SystemExit(1) from None
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        fail(f"this verb needs {error.name}, which is not installed: pip install 'ladle[{extra}]'")
        raise SystemExit(1) from None


_EXTRAS = {
    **dict.fromkeys(("aiohttp", "pydantic", "jsonschema_rs", "kubernetes"), "controller"),
    **dict.fromkeys(("cryptography", "psutil", "envoy", "jsonpatch"), "onebox"),
    **dict.fromkeys(("numpy", "httptools", "uvloop", "prometheus_client"), "server"),
}
"""Which extra brings a library that a verb may find missing."""
