"""Which code gets which URI: one line for each scheme, imported when a URI needs it.

A scheme is a module with `fetch(uri, destination)`, which puts the files into the directory `destination`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from ladle.errors import StorageUnavailable, Unsupported, UserError
from runtimes.storage.uri import StorageUri, parse_uri

SCHEMES = {
    "": "runtimes.storage.local",
    "file": "runtimes.storage.local",
    "http": "runtimes.storage.web",
    "https": "runtimes.storage.web",
}
_MULTI_MODEL_DIRECTORY = "/mnt/models"
"""KServe's mark for a server that gets its models later: nothing to do."""


def fetch(source: str, destination: Path) -> None:
    """Puts what `source` names into `destination`.

    UserError where the source or its content is wrong, StorageUnavailable where it did not answer, OSError where the
    destination cannot be written. Messages begin with the URI, since they travel far from here.
    """
    if source.startswith(_MULTI_MODEL_DIRECTORY):
        return
    try:
        uri = parse_uri(source)
        import_module(_module_of(uri)).fetch(uri, destination)
    except (UserError, StorageUnavailable) as error:
        raise type(error)(f"{source}: {error}") from error


def _module_of(uri: StorageUri) -> str:
    module = SCHEMES.get(uri.scheme)
    if module is None:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES if scheme)
        raise Unsupported(f"the scheme {uri.scheme}:// is not supported here; supported are {known} and local paths")
    return module
