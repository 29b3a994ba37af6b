"""Reads a kubeconfig as far as a small client needs it: server, certificate authority, token or client certificate.

Exec plugins and identity providers of clusters are kubectl's affair; where one is configured, the error says how to go on.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


class KubeconfigError(Exception):
    """No usable kubeconfig; the message names the file and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """How to reach an API server and as whom. `server` is a URL without a trailing slash."""

    server: str
    tls: ssl.SSLContext | None
    token: str | None
    namespace: str


def load_kubeconfig(path: Path | None = None) -> Cluster:
    """The cluster of the current context of `path`, else of `$KUBECONFIG`, else of `~/.kube/config`."""
    chosen = path or Path(os.environ.get("KUBECONFIG", "").split(os.pathsep)[0] or "~/.kube/config").expanduser()
    try:
        config = yaml.safe_load(chosen.read_text())
    except FileNotFoundError:
        raise KubeconfigError(f"{chosen} does not exist; start onebox with `ladle up`, or set KUBECONFIG") from None
    context = _named(config, "contexts", config.get("current-context", ""), chosen)["context"]
    cluster = _named(config, "clusters", context["cluster"], chosen)["cluster"]
    user = _named(config, "users", context["user"], chosen)["user"]
    if "exec" in user or "auth-provider" in user:
        raise KubeconfigError(
            f"{chosen}: user {context['user']!r} logs in through a plugin; "
            "run `kubectl proxy` and use a kubeconfig with its address"
        )
    server = cluster["server"].rstrip("/")
    tls = _tls(cluster, user, chosen.parent) if server.startswith("https") else None
    return Cluster(server=server, tls=tls, token=_token(user), namespace=context.get("namespace", "default"))


def _named(config: Mapping[str, Any], section: str, name: str, path: Path) -> Mapping[str, Any]:
    for entry in config.get(section) or ():
        if entry["name"] == name:
            found: Mapping[str, Any] = entry
            return found
    raise KubeconfigError(f"{path}: {section} has no entry named {name!r}")


def _token(user: Mapping[str, Any]) -> str | None:
    if "tokenFile" in user:
        return Path(user["tokenFile"]).read_text().strip()
    token: str | None = user.get("token")
    return token


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    authority = _content(cluster, "certificate-authority", folder)
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    certificate, key = _content(user, "client-certificate", folder), _content(user, "client-key", folder)
    if certificate and key:
        with tempfile.TemporaryDirectory() as private:  # The ssl module takes files only; the directory is ours alone.
            pair = Path(private, "pair.pem")
            pair.write_bytes(certificate + b"\n" + key)
            context.load_cert_chain(pair)
    return context


def _content(section: Mapping[str, Any], name: str, folder: Path) -> bytes | None:
    data: str | None = section.get(f"{name}-data")
    file: str | None = section.get(name)
    if data:
        return base64.b64decode(data)
    return (folder / file).read_bytes() if file else None
