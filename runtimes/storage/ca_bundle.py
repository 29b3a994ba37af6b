"""Certificate authorities of one's own: the bundle that the control plane mounts, for every library that speaks TLS.

Libraries take one file instead of the system's authorities, so that what is exported holds both: servers that are trusted
today stay trusted. S3 has settings of its own (s3_settings.py).
"""

from __future__ import annotations

import contextlib
import importlib.util
import ssl
import tempfile
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Final

from ladle.log import get_logger

_FILE: Final = "cabundle.crt"
_DIRECTORY: Final = "/etc/ssl/custom-certs"
"""Where KServe mounts the bundle unless it says otherwise."""
_EXPORTED: Final = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
"""What requests (Google, Azure) and OpenSSL (urllib, httpx) read."""

log = get_logger("runtimes.storage")


@contextlib.contextmanager
def mounted_authorities(environ: MutableMapping[str, str]) -> Iterator[None]:
    """Inside, libraries trust the mounted bundle as well, if one is configured.

    A bundle that is missing or broken is a warning, as in KServe: the source may do without.
    """
    if not environ.get("CA_BUNDLE_CONFIGMAP_NAME"):
        yield
        return
    before = {name: environ[name] for name in _EXPORTED if name in environ}
    with tempfile.TemporaryDirectory(prefix="authorities-") as directory:
        try:
            combined = {name: _combined(environ, name, Path(directory)) for name in _EXPORTED}
        except (OSError, ssl.SSLError) as error:
            log.warning(
                "the mounted certificate authorities cannot be used", path=str(_bundle(environ)), error=str(error)
            )
            combined = {}
        environ.update(combined)
        try:
            yield
        finally:
            for name in combined:
                del environ[name]
            environ.update(before)


def _bundle(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("CA_BUNDLE_VOLUME_MOUNT_POINT") or _DIRECTORY) / _FILE


def _combined(environ: Mapping[str, str], name: str, directory: Path) -> str:
    """The path of a file with the mounted bundle and what the variable `name` stands for now."""
    given = environ.get(name)
    files = [Path(given)] if given and Path(given).is_file() else _system_files()
    path = directory / f"{name}.crt"
    path.write_bytes(b"\n".join(file.read_bytes() for file in (*files, _bundle(environ))))
    # One entry that cannot be read would make OpenSSL refuse the whole file.
    ssl.create_default_context(cafile=path)
    return str(path)


def _system_files() -> list[Path]:
    paths = ssl.get_default_verify_paths()
    system = [Path(paths.openssl_cafile)] if Path(paths.openssl_cafile).is_file() else []
    if importlib.util.find_spec("certifi") is None:
        return system
    import certifi

    return [*system, Path(certifi.where())]
