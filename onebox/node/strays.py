"""Finds processes that an earlier node started and never wrote down. (pure)

A node can be killed between a fork and the record of it. Such a process is ended and its container started anew: it has
only just begun, and nobody can tell how far it came.
"""

from __future__ import annotations

from collections.abc import Iterable

from onebox.node.launch_spec import LAUNCH_VARIABLE, POD_VARIABLE
from onebox.node.process_table import Seen
from onebox.node.state import PodRecord
from onebox.node.template import TEMPLATE_VARIABLE
from onebox.processes import COMPONENT_VARIABLE, ProcessId


def find_strays(
    processes: Iterable[Seen], records: Iterable[PodRecord], templates: Iterable[ProcessId]
) -> tuple[ProcessId, ...]:
    """The node's processes that belong to no recorded run and are no recorded template.

    A process belongs to a run by its session, or by the id in its environment where it opened a session of its own; what
    a template forked shows the template's environment, so there only the session counts.
    """
    running = tuple(process for process in processes if _is_the_nodes(process))
    alive = {process.identity for process in running}
    runs = [(record.container(name).launch, identity) for record in records for name, identity in record.processes()]
    known = {(launch, identity) for launch, identity in runs if identity in alive}
    sessions = {identity.pid for _, identity in known} | {identity.pid for identity in templates if identity in alive}
    launches = {launch for launch, _ in known}
    return tuple(
        process.identity
        for process in running
        if process.session not in sessions and process.variables.get(LAUNCH_VARIABLE, "") not in launches
    )


def _is_the_nodes(process: Seen) -> bool:
    variables = process.variables
    return COMPONENT_VARIABLE not in variables and (POD_VARIABLE in variables or TEMPLATE_VARIABLE in variables)
