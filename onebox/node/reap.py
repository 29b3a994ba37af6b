"""Ends every pod and template process of a home, whether its node runs or not: the last act of `ladle down`."""

from __future__ import annotations

import signal

from onebox.home import Home
from onebox.node.template import template_records
from onebox.processes import COMPONENT_VARIABLE, ProcessId, end, processes_of, wait_for_exit

_ROUNDS_MAX = 10
"""Looks for processes that were started while others were ended."""
_KILL_TIMEOUT_S = 2.0
"""A killed process is gone in milliseconds unless the kernel holds it."""


def kill_all(home: Home, deadline_s: float) -> int:
    """SIGTERM to all, SIGKILL to what still runs after `deadline_s` seconds; returns how many there were.

    Components of the control plane are not touched: they are the supervisor's.
    """
    pods = _processes(home)
    ended = end(pods, grace_s=deadline_s)
    for _ in range(_ROUNDS_MAX):
        late = _processes(home)
        if not late:
            break
        for process in late:
            process.signal(signal.SIGKILL)
        wait_for_exit(late, timeout_s=_KILL_TIMEOUT_S)
        ended += len(set(late) - set(pods))
    for name in template_records(home):
        (home.node / "templates" / f"{name}.json").unlink(missing_ok=True)
    return ended


def _processes(home: Home) -> list[ProcessId]:
    return [process for process, environment in processes_of(home.root) if _is_pod(environment)]


def _is_pod(environment: dict[str, str]) -> bool:
    """Components and their supervisor say who they are, or nothing but the home; pods and templates say that they are."""
    return COMPONENT_VARIABLE not in environment and ("LADLE_POD_UID" in environment or "LADLE_TEMPLATE" in environment)
