"""Where onebox keeps its things, and the settings that `ladle up` wrote there for its components.

Every component starts as `python -m <component> --home DIR`, reads `Home.settings()` and finds its files here. Nothing
else is shared between components but the API server.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from controller.base.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class OneboxSettings:
    """What `ladle up` decided; all addresses are on loopback."""

    api_port: int = 16443
    """Port of the API server (TLS). A choice of ours, next to Kubernetes' 6443."""
    gateway_port: int = 8080
    """Port of Envoy's public listener: HTTP/1.1 and h2c."""
    local_gateway_port: int = 8081
    """Port of Envoy's cluster-local listener (Knative's knative-local-gateway uses 8081)."""
    activator_port: int = 8012
    """Port where the activator takes requests for revisions without pods (Knative's number)."""
    metrics_port: int = 9090
    """Port of the page of metrics (Knative's and Prometheus' number)."""
    log_level: str = "info"

    def with_ports(self, ports: Mapping[str, int]) -> OneboxSettings:
        """The same settings with these ports, by field name."""
        return OneboxSettings(**{**asdict(self), **ports})


@dataclass(frozen=True, slots=True)
class Home:
    """The directory of one onebox: `ladle up --home DIR`, `$LADLE_HOME` or `~/.ladle`."""

    root: Path

    @classmethod
    def locate(cls, option: str | None = None) -> Home:
        """The home named by the option, else by `$LADLE_HOME`, else `~/.ladle`; always absolute."""
        chosen = option or os.environ.get("LADLE_HOME") or "~/.ladle"
        return cls(Path(chosen).expanduser().resolve())

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig for people: kubectl, SDKs."""
        return self.root / "kubeconfig"

    def component_kubeconfig(self, component: str) -> Path:
        """The kubeconfig of one component: a user and token of its own, so that managed fields and logs name it."""
        return self.components / f"{component}.kubeconfig"

    @property
    def endpoints(self) -> Path:
        return self.root / "endpoints.json"

    @property
    def settings_file(self) -> Path:
        return self.root / "settings.json"

    @property
    def pki(self) -> Path:
        """`ca.crt`, `ca.key`, `server.crt`, `server.key`, `tokens.json` ({token: user}); readable by the owner only."""
        return self.root / "pki"

    @property
    def component_list(self) -> Path:
        """What the supervisor is to run, as `ladle up` decided."""
        return self.root / "components.json"

    @property
    def components(self) -> Path:
        """One `<name>.json` per component that runs: what the supervisor started."""
        return self.root / "components"

    @property
    def logs(self) -> Path:
        """`<component>.log`."""
        return self.root / "logs"

    @property
    def pod_logs(self) -> Path:
        """`<namespace>_<pod>_<uid>/<container>/<restart>.log`, as kubelet lays them out."""
        return self.logs / "pods"

    @property
    def run(self) -> Path:
        """Unix sockets."""
        return self.root / "run"

    @property
    def template_socket(self) -> Path:
        """Where the components' template takes requests to fork."""
        return self.run / "template.sock"

    @property
    def database(self) -> Path:
        return self.root / "state" / "state.db"

    @property
    def envoy(self) -> Path:
        return self.root / "envoy"

    @property
    def node(self) -> Path:
        """`pods/<uid>/`: records, volumes and working directories of pods."""
        return self.root / "node"

    @property
    def storage_cache(self) -> Path:
        """Model files by digest, shared by the storage initializers of all pods."""
        return self.root / "cache" / "storage"

    def settings(self) -> OneboxSettings:
        """The settings that `ladle up` wrote; UserError where this home was never started."""
        try:
            stored = json.loads(self.settings_file.read_text())
        except FileNotFoundError:
            raise UserError(
                "NotStarted", f"{self.root} holds no onebox; start one with: ladle up --home {self.root}"
            ) from None
        known = OneboxSettings.__dataclass_fields__
        return OneboxSettings(**{name: value for name, value in stored.items() if name in known})

    def write_settings(self, settings: OneboxSettings) -> None:
        write_atomically(self.settings_file, json.dumps(asdict(settings), indent=2).encode() + b"\n")


def metrics_socket(home: Home, component: str) -> Path:
    """Where a component serves its metrics to the engine, which serves them all."""
    return home.run / f"{component}-metrics.sock"


def write_atomically(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replaces `path` by `content` in one step: a reader, or a crash, sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:  # Whatever stopped the write, cancellation too, leaves no temporary file behind.
        os.unlink(temporary)
        raise
