"""Which code gets which URI: one line for each scheme, imported when a URI needs it.

A scheme is a module with `fetch(uri, destination)`, which puts the files into the directory `destination`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from runtimes.storage.uri import BadUri, parse_uri

SCHEMES = {
    "": "runtimes.storage.local",
    "file": "runtimes.storage.local",
    "http": "runtimes.storage.web",
    "https": "runtimes.storage.web",
}
_MULTI_MODEL_DIRECTORY = "/mnt/models"
"""KServe's mark for a server that gets its models later: nothing to do."""


def fetch(source: str, destination: Path) -> None:
    """Puts what `source` names into `destination`; BadUri and its siblings, StorageUnavailable, OSError."""
    if source.startswith(_MULTI_MODEL_DIRECTORY):
        return
    uri = parse_uri(source)
    module = SCHEMES.get(uri.scheme)
    if module is None:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES if scheme)
        raise BadUri(f"scheme {uri.scheme}:// is unknown, must be one of {known} or a path")
    import_module(module).fetch(uri, destination)
