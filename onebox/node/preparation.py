"""What has to be there before a container can be started: what it refers to, its volumes, its program."""

from __future__ import annotations

from controller.base.errors import UserError
from onebox.node.environment import Surroundings, referenced_objects
from onebox.node.images import (
    ImageCommands,
    Role,
    installed,
    not_installed_message,
    role_of,
    runtime_of,
    unknown_image_message,
)
from onebox.node.launch_spec import Places, PodContext
from onebox.node.machine import Machine
from onebox.node.mounts import build_volume_paths
from onebox.node.objects import fetch_image_commands, fetch_objects
from onebox.node.spec import Container, Pod
from onebox.node.state import PodRecord
from onebox.node.volumes import materialise

IMAGE_ERROR = "ErrImagePull"


async def prepare(machine: Machine, pod: Pod, record: PodRecord, container: Container) -> PodContext:
    """All that the container's process is made from, with the pod's volumes in place.

    UserError where it cannot be started as things are; TransientError where the API server did not answer.
    """
    commands = await _known_commands(machine, pod, container)
    objects = await fetch_objects(machine.client, pod) if referenced_objects(pod) else {}
    around = Surroundings(objects=objects, cpus=machine.cpus, memory_bytes=machine.memory_bytes)
    places = places_of(machine, pod)
    materialise(pod, places.volumes, around)
    return PodContext(
        pod=pod, ports=record.ports, places=places, around=around, commands=commands, inherited=machine.inherited
    )


def places_of(machine: Machine, pod: Pod) -> Places:
    """Where the pod's files are; UserError for a kind of volume that this node does not have."""
    folder = machine.records.folder(pod.uid)
    volumes = build_volume_paths(pod, volumes=folder / "volumes", claims=machine.home.root / "volumes")
    return Places(home=machine.home.root, pod=folder, volumes=volumes)


async def _known_commands(machine: Machine, pod: Pod, container: Container) -> ImageCommands:
    """The ConfigMap's commands, read only for an image that is known no other way."""
    commands: ImageCommands = {}
    role = role_of(pod, container, commands)
    if role is Role.UNKNOWN:
        commands = await fetch_image_commands(machine.client)
        if role_of(pod, container, commands) is Role.UNKNOWN:
            raise UserError(IMAGE_ERROR, unknown_image_message(container.image))
    runtime = runtime_of(container)
    if role is Role.RUNTIME and runtime is not None and not installed(runtime.module):
        raise UserError(IMAGE_ERROR, not_installed_message(container.image, runtime.module))
    return commands
