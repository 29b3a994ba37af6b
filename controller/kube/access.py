"""How to reach an API server and as whom: from a kubeconfig, or from the pod that this process runs in.

The official `kubernetes` package loads what needs code: exec plugins, auth providers, merged files, service accounts.
A single file with a token, a password or a client certificate is read here, because importing that package costs 0.5 s
and 40 MB (measured, November 2026) in each of onebox's processes.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from controller.base.errors import UserError
from controller.base.json import JsonObject, JsonView

_DEFAULT_KUBECONFIG = "~/.kube/config"
_NEEDS_CODE = ("exec", "auth-provider")
"""Keys of a kubeconfig's user that mean running a plugin or talking to an identity provider."""

Authorization = Callable[[], Awaitable[str | None]]
"""Gives the Authorization header of the next request, fresh; it may take as long as an exec plugin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A server and the credentials for it."""

    server: str
    """`https://host:port`, without a slash at the end."""
    tls: ssl.SSLContext | None
    """None for plain http."""
    tls_server_name: str | None = None
    """The name that the server's certificate must carry, where it is not the URL's host."""
    proxy: str | None = None
    authorization: Authorization | None = None
    """None where the client certificate says it all."""


def load_access(kubeconfig: Path | None) -> Access:
    """The access of this kubeconfig's current context.

    None: $KUBECONFIG, else the pod's service account, else ~/.kube/config. UserError where nothing usable is found.
    Reads files; call it in an executor where that matters.
    """
    named = str(kubeconfig) if kubeconfig else os.environ.get("KUBECONFIG", "")
    if not named and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return _from_official_package(None)
    files = [Path(part).expanduser() for part in (named or _DEFAULT_KUBECONFIG).split(os.pathsep) if part]
    if len(files) > 1:
        return _from_official_package(named)
    document = _read(files[0])
    user = _entry(document, "users", _context(document).get("user", ""), "user", optional=True)
    if any(key in user for key in _NEEDS_CODE):
        return _from_official_package(str(files[0]))
    cluster = _entry(document, "clusters", _context(document).get("cluster", ""), "cluster")
    return _plain(cluster, user, files[0].parent)


def _read(file: Path) -> JsonObject:
    try:
        document = yaml.safe_load(file.read_text())
    except FileNotFoundError:
        raise UserError(
            "NoKubeconfig", f"{file} does not exist; set KUBECONFIG, or start onebox with: ladle up"
        ) from None
    except yaml.YAMLError as error:
        raise UserError("BadKubeconfig", f"{file} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise UserError("BadKubeconfig", f"{file} is not a kubeconfig")
    return document


def _context(document: JsonView) -> JsonObject:
    return _entry(document, "contexts", document.get("current-context") or "", "context")


def _entry(document: JsonView, section: str, name: str, key: str, *, optional: bool = False) -> JsonObject:
    for entry in document.get(section) or ():
        if entry.get("name") == name:
            return entry.get(key) or {}
    if optional:
        return {}
    raise UserError("BadKubeconfig", f"kubeconfig: {section} has no entry named {name!r}")


def _plain(cluster: JsonView, user: JsonView, folder: Path) -> Access:
    server = str(cluster.get("server", "")).rstrip("/")
    if not server.startswith(("https://", "http://")):
        raise UserError("BadKubeconfig", f"kubeconfig: cluster.server = {server!r}, must be an http or https URL")
    return Access(
        server=server,
        tls=_tls(cluster, user, folder) if server.startswith("https://") else None,
        tls_server_name=cluster.get("tls-server-name"),
        proxy=cluster.get("proxy-url"),
        authorization=_authorization(user, folder),
    )


def _tls(cluster: JsonView, user: JsonView, folder: Path) -> ssl.SSLContext:
    authority = _content(cluster, "certificate-authority", folder)
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate, key = _content(user, "client-certificate", folder), _content(user, "client-key", folder)
    if certificate and key:
        _load_certificate(context, certificate + b"\n" + key)
    return context


def _content(section: JsonView, key: str, folder: Path) -> bytes | None:
    inline = section.get(f"{key}-data")
    if inline:
        return base64.b64decode(inline)
    return (folder / section[key]).read_bytes() if section.get(key) else None


def _load_certificate(context: ssl.SSLContext, pem: bytes) -> None:
    # The ssl module takes certificates from files only; mkstemp's file is readable by us alone and gone at once.
    descriptor, name = tempfile.mkstemp()
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        context.load_cert_chain(name)
    finally:
        os.unlink(name)


def _authorization(user: JsonView, folder: Path) -> Authorization | None:
    if user.get("token"):
        return _constant(f"Bearer {user['token']}")
    if user.get("tokenFile"):
        file = folder / user["tokenFile"]

        async def read_token() -> str:
            # A few hundred bytes that the kernel has cached: not worth an executor. Read each time, since tokens rotate.
            return f"Bearer {file.read_text().strip()}"

        return read_token
    if user.get("username"):
        pair = f"{user['username']}:{user.get('password', '')}"
        return _constant(f"Basic {base64.b64encode(pair.encode()).decode()}")
    return None


def _constant(header: str) -> Authorization:
    async def authorization() -> str:
        return header

    return authorization


def _from_official_package(paths: str | None) -> Access:
    """Access by the official package: `paths` as in $KUBECONFIG, or None for the pod's service account."""
    from controller.kube import plugins  # Imports the official package, which most processes can do without.

    return plugins.load_access(paths)
