"""Which code gets which URI, imported when a URI needs it.

A store is a module with `open_source(uri, env)`, which lists and reads (runtimes/storage/objects.py); the rest is the core's.
What is no store of files has a module with `fetch(uri, destination, settings)`: local paths, which are linked, and git.
"""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path

from ladle.clock import SystemClock
from ladle.errors import TransientError, Unsupported, UserError
from runtimes.storage.settings import parse_settings
from runtimes.storage.uri import StorageUri, parse_uri, printable

LOCAL = "runtimes.storage.local"
WEB = "runtimes.storage.web"
GIT = "runtimes.storage.git"

SOURCES = {
    "http": WEB,
    "https": WEB,
    "s3": "runtimes.storage.s3",
    "gs": "runtimes.storage.gs",
    "hf": "runtimes.storage.hf",
}
"""Stores by scheme."""

HOSTS: dict[str, str] = {
    r"https://[^/?#]+\.(blob|file)\.core\.windows\.net/": "runtimes.storage.azure",
    r"https://[^/?#]+\.z[0-9]{1,2}\.(blob|file)\.storage\.azure\.net/": "runtimes.storage.azure",
}
"""Stores that share https:// with the web, by a regular expression for the URI's beginning; they come before SOURCES."""

FETCHERS = {"": LOCAL, "file": LOCAL}

_GIT = re.compile(r"^https?://[^?#]+\.git/?$")
_MULTI_MODEL_DIRECTORY = "/mnt/models"
"""KServe's mark for a server that gets its models later: nothing to do."""
_ELSEWHERE = {
    "pvc": "the control plane mounts pvc:// volumes; the initializer gets /mnt/pvc/... instead",
    "oci": "images are mounted or linked by the cluster (KServe's modelcars), not by this initializer",
    "hdfs": "reach the files over https:// or s3://, or use KServe's initializer by a ClusterStorageContainer",
    "webhdfs": "reach the files over https:// or s3://, or use KServe's initializer by a ClusterStorageContainer",
    "modelscope": "use hf:// where the model is there too, or KServe's initializer by a ClusterStorageContainer",
}
"""What to do about KServe's other schemes."""


def fetch(source: str, destination: Path) -> None:
    """Puts what `source` names into `destination`.

    UserError where the source or its content is wrong; StorageUnavailable where it did not answer, DiskFull and CannotWrite
    where the destination did not take it. Messages begin with the URI, since they travel far from here.
    """
    if source == _MULTI_MODEL_DIRECTORY or source.startswith(f"{_MULTI_MODEL_DIRECTORY}/"):
        return
    try:
        _fetch(parse_uri(source), destination)
    except (UserError, TransientError) as error:
        raise type(error)(f"{printable(source)}: {error}") from error


def _fetch(uri: StorageUri, destination: Path) -> None:
    settings = parse_settings(os.environ)
    module = GIT if _GIT.match(uri.location) and not _at_known_host(uri) else FETCHERS.get(uri.scheme)
    if module is not None:
        import_module(module).fetch(uri, destination, settings)
        return
    module = _at_known_host(uri) or SOURCES.get(uri.scheme)
    if module is None:
        raise _unsupported(uri.scheme)
    if module == WEB:
        settings = settings.without_patterns()  # One file, which was named; KServe does not filter it either.
    # Not at the top: a local model needs neither threads nor hashes, and is in place within milliseconds.
    import_module("runtimes.storage.fetching").fetch_source(
        import_module(module).open_source(uri, os.environ), uri, destination, settings=settings, clock=SystemClock()
    )


def _at_known_host(uri: StorageUri) -> str | None:
    return next((module for pattern, module in HOSTS.items() if re.match(pattern, uri.location)), None)


def _unsupported(scheme: str) -> Unsupported:
    known = ", ".join(f"{name}://" for name in (*FETCHERS, *SOURCES) if name)
    advice = f"; {_ELSEWHERE[scheme]}" if scheme in _ELSEWHERE else ""
    return Unsupported(
        f"the scheme {scheme}:// is not supported here; supported are {known}, https://....git and local paths{advice}"
    )
