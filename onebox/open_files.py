"""How many files a component may have open."""

from __future__ import annotations

import resource


def allow_open_files() -> None:
    """As many as the machine's administrator allows: the usual soft limit of 1024 is for programs that use select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
