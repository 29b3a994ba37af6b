"""What a storage initializer does that needs no process: links to a model that lies on this machine.

A process costs a quarter of a start from zero, and the links a thousandth (measured 2026-11-21). So whoever starts
initializers may ask here first. What takes long, needs credentials or fails is left to the process, errors included: it
tells them where everybody looks, in its own words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ladle.clock import SystemClock
from ladle.errors import TransientError, UserError
from ladle.log import render_line
from runtimes.storage.archive import is_archive
from runtimes.storage.local import fetch, local_path
from runtimes.storage.settings import parse_settings
from runtimes.storage.uri import StorageUri, parse_uri, printable

_LOCAL = ("", "file")
_clock = SystemClock()


def attempt(argv: Sequence[str], env: Mapping[str, str]) -> str | None:
    """The log of `python -m runtimes.storage ARGV` in this environment, whose work is done then; None where it takes a process.

    Blocking: it looks at directories and makes links, which a file system of the network may take its time for. Whatever was
    done before it gave up does no harm to the process, which begins anew.
    """
    if not argv or len(argv) % 2:
        return None
    try:
        return "".join(
            _link(source, destination, env) for source, destination in zip(argv[::2], argv[1::2], strict=True)
        )
    except (UserError, TransientError, OSError, _NeedsProcess):
        return None


class _NeedsProcess(Exception):
    """This is no matter of links."""


def _link(source: str, destination: str, env: Mapping[str, str]) -> str:
    began_s = _clock.monotonic_s()
    uri, settings = parse_uri(source), parse_settings(env)
    if settings.allow or settings.ignore or not _is_linked(uri):
        raise _NeedsProcess
    fetch(uri, Path(destination), settings)
    seconds = round(_clock.monotonic_s() - began_s, 3)
    said = {"source": printable(source), "destination": destination, "seconds": seconds}
    return render_line("info", "runtimes.storage", "model files in place", said)


def _is_linked(uri: StorageUri) -> bool:
    """Whether the URI names what is linked: no archive to unpack, no content to digest."""
    if uri.scheme not in _LOCAL or uri.sha256:
        return False
    path = local_path(uri)
    entries = list(path.iterdir()) if path.is_dir() else [path]
    return path.exists() and not (len(entries) == 1 and is_archive(entries[0].name))
