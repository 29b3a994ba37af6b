"""What onebox consists of: the processes that the supervisor keeps running, in the order of their start.

`ladle up` writes the list into the home; the supervisor only reads it, so that it needs nothing of what it runs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from onebox.home import Home, OneboxSettings, metrics_socket, write_atomically

TEMPLATE = "template"
"""The component that the others are forked from."""
_PRELOADS = (
    "onebox.apiserver.__main__",
    "onebox.engine",
    "onebox.node.__main__",
    "onebox.knative.activator.__main__",
    "controller.__main__",
    # What the API server imports late, for its first request to a kind with an admission.
    "controller.api.validation",
    "onebox.knative.admission",
)
"""What the template imports. A module that is missing here is imported by each process that needs it, for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One process of the control or data plane."""

    name: str
    command: tuple[str, ...]
    purpose: str
    module: str = ""
    """The Python module that it runs, to be forked from the template; "" for a program of its own."""
    arguments: tuple[str, ...] = ()
    """What `main` of `module` gets."""


def components(home: Home, settings: OneboxSettings) -> tuple[Component, ...]:
    """Every component of this home. Each may be killed at any time; the others go on, and it comes back."""
    from onebox.istio.bootstrap import envoy_command  # Heavy, and only `ladle up` needs it.

    at_home = ("--home", str(home.root))
    return (
        _template(home),
        Component(name="envoy", command=tuple(envoy_command(home, settings)), purpose="gateway: HTTP/1.1 and h2c"),
        _forked("apiserver", "onebox.apiserver", at_home, "Kubernetes API on SQLite"),
        _forked("node", "onebox.node", at_home, "runs pods as processes"),
        _forked("engine", "onebox.engine", at_home, "Deployments, Knative, routes, autoscaler"),
        _forked("activator", "onebox.knative.activator", at_home, "holds requests while pods start"),
        _forked(
            "controller",
            "controller",
            (
                "--no-leader-elect",
                *("--kubeconfig", str(home.component_kubeconfig("controller")), "--log-level", settings.log_level),
                *("--metrics-socket", str(metrics_socket(home, "controller"))),
            ),
            "InferenceServices",
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
    return tuple(
        Component(**{**entry, "command": tuple(entry["command"]), "arguments": tuple(entry.get("arguments", ()))})
        for entry in stored
    )


def _template(home: Home) -> Component:
    command = (sys.executable, "-m", "ladle.server.template", "--socket", str(home.template_socket))
    purpose = "forks what follows, which shares its memory"
    return Component(name=TEMPLATE, command=(*command, "--preload", *_PRELOADS), purpose=purpose)


def _forked(name: str, module: str, arguments: tuple[str, ...], purpose: str) -> Component:
    command = (sys.executable, "-m", module, *arguments)
    return Component(name=name, command=command, purpose=purpose, module=module, arguments=arguments)
