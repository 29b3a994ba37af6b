"""A kubeconfig gives server, trust and identity, or says what to do."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from ladle.sdk.kubeconfig import KubeconfigError, load_kubeconfig


def write(path: Path, *, cluster: dict[str, Any], user: dict[str, Any], namespace: str | None = None) -> Path:
    context: dict[str, Any] = {"cluster": "c", "user": "u"}
    if namespace:
        context["namespace"] = namespace
    config = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": context}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


def test_token_and_namespace_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "config", cluster={"server": "http://127.0.0.1:1/"}, user={"token": "t"}, namespace="mine")
    cluster = load_kubeconfig(path)
    assert (cluster.server, cluster.token, cluster.namespace, cluster.tls) == ("http://127.0.0.1:1", "t", "mine", None)


def test_a_token_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    path = write(tmp_path / "config", cluster={"server": "http://h"}, user={"tokenFile": str(tmp_path / "token")})
    assert load_kubeconfig(path).token == "from-file"


def test_the_environment_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "config", cluster={"server": "http://h"}, user={})
    monkeypatch.setenv("KUBECONFIG", str(path))
    cluster = load_kubeconfig()
    assert cluster.namespace == "default"


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="ladle up"):
        load_kubeconfig(tmp_path / "nothing")


def test_a_missing_entry_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "config", cluster={"server": "http://h"}, user={})
    config = yaml.safe_load(path.read_text()) | {"users": []}
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(KubeconfigError, match="users has no entry named 'u'"):
        load_kubeconfig(path)


def test_a_login_plugin_says_how_to_go_on(tmp_path: Path) -> None:
    path = write(tmp_path / "config", cluster={"server": "https://h"}, user={"exec": {"command": "gke"}})
    with pytest.raises(KubeconfigError, match="kubectl proxy"):
        load_kubeconfig(path)


def test_a_broken_authority_is_not_ignored(tmp_path: Path) -> None:
    data = base64.b64encode(b"no certificate").decode()
    path = write(tmp_path / "config", cluster={"server": "https://h", "certificate-authority-data": data}, user={})
    with pytest.raises(Exception, match=r"(?i)pem|cert|no start line"):
        load_kubeconfig(path)
