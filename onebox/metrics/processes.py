"""The components of a onebox as processes: memory, processor time, restarts; read from /proc and the supervisor's records."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from controller.base.exposition import Family, render_labels
from onebox.components import read_components
from onebox.home import Home
from onebox.processes import proportional_memory_bytes
from onebox.supervisor import read_record

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_STAT_UTIME, _STAT_STIME, _STAT_RSS = 11, 12, 21
"""Fields of /proc/PID/stat after the name of the program, as proc(5) counts them."""


def read_processes(home: Home) -> Iterable[Family]:
    """The families of the components that run. Reads a few small files."""
    memory = Family("ladle_component_resident_memory_bytes", "gauge", "Resident memory of a component")
    share = Family(
        "ladle_component_proportional_memory_bytes", "gauge", "Memory of a component, shared pages by their share"
    )
    cpu = Family("ladle_component_cpu_seconds_total", "counter", "Processor time, user and system, of a component")
    restarts = Family("ladle_component_restarts_total", "counter", "How often the supervisor restarted a component")
    for component in read_components(home):
        recorded = read_record(home, component.name)
        if recorded is None:
            continue
        process, restarted = recorded
        labels = render_labels(component=component.name)
        restarts.add(labels, restarted)
        try:
            fields = Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        cpu.add(labels, (int(fields[_STAT_UTIME]) + int(fields[_STAT_STIME])) / _TICKS_PER_S)
        memory.add(labels, int(fields[_STAT_RSS]) * _PAGE_BYTES)
        share.add(labels, proportional_memory_bytes(process.pid))
    return memory, share, cpu, restarts
