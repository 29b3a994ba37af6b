"""Which command stands for a container image on this machine. (data, and the pure functions that read it)

A container's own `command` always wins. Otherwise the image's name, without registry, tag and digest, is looked up here;
other images can be added without code by the ConfigMap `ladle-system/onebox-images`:

    data:
      images: |
        docker.io/me/my-model* = python -m my_model --verbose
"""

from __future__ import annotations

import contextlib
import importlib.util
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from onebox.node.agents import is_agent
from onebox.node.spec import QUEUE_PROXY, Container, Pod

IMAGES_NAMESPACE = "ladle-system"
IMAGES_CONFIG_MAP = "onebox-images"
IMAGES_KEY = "images"
PROXY_MODULE = "runtimes.queueproxy"
"""The queue-proxy as a process of its own, in front of a container that is not one of our runtimes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A program of ours that stands for an image: `python -m module`, forked from `template` where one runs."""

    module: str
    template: str
    serves: bool = True
    """Whether it is a model server, with the queue-proxy inside."""
    at_once: str = ""
    """A module whose `attempt(argv, env)` does what needs no process, and returns what the program would have logged; None
    where it takes the process. Empty: it always does."""


RUNTIMES: Mapping[str, Runtime] = {
    "sklearnserver": Runtime(module="runtimes.sklearnserver", template="tabular"),
    "xgbserver": Runtime(module="runtimes.xgbserver", template="tabular"),
    "lgbserver": Runtime(module="runtimes.lgbserver", template="tabular"),
    "onnxserver": Runtime(module="runtimes.onnxserver", template="tabular"),
    "pytorchserver": Runtime(module="runtimes.pytorchserver", template="pytorchserver"),
    "pythonserver": Runtime(module="runtimes.pyserver", template="pythonserver"),
    # By the format's name: a runtime of several formats (manifests/onebox) has one image, {{.Annotations.modelFormat}}server.
    "xgboostserver": Runtime(module="runtimes.xgbserver", template="tabular"),
    "lightgbmserver": Runtime(module="runtimes.lgbserver", template="tabular"),
    # Not under KServe's name: its image-transformer is a demo that prepares images of its own kind.
    "ladle-image-transformer": Runtime(module="transformer.image", template="tabular"),
    "ladle-tabular-transformer": Runtime(module="transformer.tabular", template="tabular"),
    "storage-initializer": Runtime(
        module="runtimes.storage", template="storage", serves=False, at_once="runtimes.storage.at_once"
    ),
}
"""By the last part of the image's name; KServe's own names and ours are the same."""

PRELOADS: Mapping[str, tuple[str, ...]] = {
    # One for all four: they share pandas and scikit-learn, and XGBoost and LightGBM add 16 MB to its 173 (measured
    # 2026-11-21); scikit-learn's own server runs busy models in onnxruntime.
    "tabular": (
        "runtimes.sklearnserver.preload",
        "runtimes.xgbserver.preload",
        "runtimes.lgbserver.preload",
        "runtimes.onnxserver.preload",
    ),
    "storage": ("runtimes.storage.preload",),
    "pytorchserver": ("runtimes.pytorchserver.preload",),
}
"""What a template imports before it forks. A runtime without an entry is started as an ordinary process."""

ON_DEMAND = frozenset({"pytorchserver"})
"""Templates that start with the first server of theirs: PyTorch is 320 MB, too much for a machine that serves none."""


TEMPLATES_VARIABLE = "LADLE_TEMPLATES"
"""Environment variable of the node: which templates it keeps, by name, separated by commas; unset: all.

The one for tabular models takes 190 MB; without it a server starts in two seconds instead of a tenth of one.
"""


def chosen_preloads(environment: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
    """The templates that the node keeps."""
    if TEMPLATES_VARIABLE not in environment:
        return PRELOADS
    names = {name.strip() for name in environment[TEMPLATES_VARIABLE].split(",")}
    return {name: modules for name, modules in PRELOADS.items() if name in names}


class Role(StrEnum):
    """How a container is run."""

    RUNTIME = "runtime"
    """One of our programs."""
    COMMAND = "command"
    """The container's own command, or the one that the image is mapped to."""
    PROXY = "proxy"
    """The queue-proxy as a process."""
    EMBEDDED = "embedded"
    """The queue-proxy inside the runtime's process, or KServe's agent inside either: no process of its own, and a status
    that mirrors that of its host."""
    UNKNOWN = "unknown"
    """No command is known."""


ImageCommands = Mapping[str, tuple[str, ...]]
"""Commands by image pattern, as the ConfigMap maps them."""


def image_name(image: str) -> str:
    """The last part of an image's name.

    >>> image_name("docker.io/kserve/sklearnserver:v0.15.2@sha256:0123")
    'sklearnserver'
    """
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def runtime_of(container: Container) -> Runtime | None:
    """The program of ours that runs this container; None where its own command does, or nothing is known."""
    return None if container.command else RUNTIMES.get(image_name(container.image))


def is_queue_proxy(container: Container) -> bool:
    return container.name == QUEUE_PROXY and not container.command


def embedding_container(pod: Pod) -> Container | None:
    """The container whose process contains the pod's queue-proxy; None where that is a process of its own or absent."""
    if not any(is_queue_proxy(container) for container in pod.containers):
        return None
    own = [container for container in pod.containers if not is_queue_proxy(container) and not is_agent(container)]
    # Beside a transformer, the predictor names no port: requests are for the container that does.
    asked = [container for container in own if container.ports] or own
    runtimes = ((container, runtime_of(container)) for container in asked)
    return next((container for container, runtime in runtimes if runtime and runtime.serves), None)


def host_of(pod: Pod, container: Container) -> Container | None:
    """The container whose process does this one's work; None where it has a process of its own."""
    if is_queue_proxy(container):
        return embedding_container(pod)
    if is_agent(container):
        return embedding_container(pod) or next(filter(is_queue_proxy, pod.containers), None)
    return None


def embeds_proxy(pod: Pod, container: Container) -> bool:
    """Whether this container's process contains the pod's queue-proxy; told by name, since a pod may be read anew meanwhile."""
    embedding = embedding_container(pod)
    return embedding is not None and embedding.name == container.name


def lives_in(pod: Pod, other: Container, container: Container) -> bool:
    """Whether `other` does its work in the process of `container`; told by name, as above."""
    host = host_of(pod, other)
    return host is not None and host.name == container.name


def role_of(pod: Pod, container: Container, commands: ImageCommands) -> Role:
    """How this container of this pod is run."""
    if is_queue_proxy(container):
        return Role.EMBEDDED if embedding_container(pod) else Role.PROXY
    if host_of(pod, container) is not None:
        return Role.EMBEDDED
    if container.command:
        return Role.COMMAND
    if runtime_of(container):
        return Role.RUNTIME
    return Role.COMMAND if mapped_command(container.image, commands) else Role.UNKNOWN


def mapped_command(image: str, commands: ImageCommands) -> tuple[str, ...]:
    """The command that the ConfigMap maps this image to; () where it maps it to none. The first pattern that fits wins."""
    fitting = (command for pattern, command in commands.items() if fnmatchcase(image, pattern))
    return next(fitting, ())


def parse_image_commands(text: str) -> ImageCommands:
    """Lines `PATTERN = COMMAND ARGS`; lines that are empty, comments or not of this form count for nothing."""
    commands = {}
    for line in text.splitlines():
        pattern, separator, command = line.partition("=")
        if separator and not line.lstrip().startswith("#"):
            with contextlib.suppress(ValueError):  # An open quotation.
                commands[pattern.strip()] = tuple(shlex.split(command))
    return commands


def installed(module: str) -> bool:
    """Whether a program of ours is there: `pip install ladle[...]` brings only what was asked for."""
    try:
        return importlib.util.find_spec(f"{module}.__main__") is not None
    except ModuleNotFoundError:
        return False


def unknown_image_message(image: str) -> str:
    """What to tell whoever wrote the pod."""
    return (
        f'Failed to pull image "{image}": this machine runs processes, not images, and knows no command for this one. '
        f"Give the container a command, or map the image in the ConfigMap {IMAGES_NAMESPACE}/{IMAGES_CONFIG_MAP}: "
        f'data.{IMAGES_KEY}: "{image} = python -m my_server"'
    )


def not_installed_message(image: str, module: str) -> str:
    return f'Failed to pull image "{image}": it stands for {module}, which is not installed here; see pip install "ladle[...]"'
