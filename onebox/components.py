"""What onebox consists of: the processes that the supervisor keeps running, in the order of their start.

`ladle up` writes the list into the home; the supervisor only reads it, so that it needs nothing of what it runs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from onebox.home import Home, OneboxSettings, metrics_socket, write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One process of the control or data plane."""

    name: str
    command: tuple[str, ...]
    purpose: str


def components(home: Home, settings: OneboxSettings) -> tuple[Component, ...]:
    """Every component of this home. Each may be killed at any time; the others go on, and it comes back."""
    from onebox.istio.bootstrap import envoy_command  # Heavy, and only `ladle up` needs it.

    return (
        _python(home, "apiserver", "onebox.apiserver", "Kubernetes API on SQLite"),
        Component(name="envoy", command=tuple(envoy_command(home, settings)), purpose="gateway: HTTP/1.1 and h2c"),
        _python(home, "node", "onebox.node", "runs pods as processes"),
        _python(home, "engine", "onebox.engine", "Deployments, Knative, routes, autoscaler"),
        _python(home, "activator", "onebox.knative.activator", "holds requests while pods start"),
        Component(
            name="controller",
            command=(
                *(sys.executable, "-m", "controller", "--no-leader-elect"),
                *("--kubeconfig", str(home.component_kubeconfig("controller")), "--log-level", settings.log_level),
                *("--metrics-socket", str(metrics_socket(home, "controller"))),
            ),
            purpose="InferenceServices",
        ),
    )


def write_components(home: Home, wanted: Iterable[Component]) -> None:
    """Writes down what the supervisor is to run."""
    write_atomically(home.component_list, json.dumps([asdict(component) for component in wanted], indent=2).encode())


def read_components(home: Home) -> tuple[Component, ...]:
    """What `write_components` wrote; () for a home that was never started."""
    try:
        stored = json.loads(home.component_list.read_text())
    except FileNotFoundError:
        return ()
    return tuple(Component(**{**entry, "command": tuple(entry["command"])}) for entry in stored)


def _python(home: Home, name: str, module: str, purpose: str) -> Component:
    return Component(name=name, command=(sys.executable, "-m", module, "--home", str(home.root)), purpose=purpose)
