"""Thread counts of numeric libraries in a process that was forked with them loaded.

They read OMP_NUM_THREADS and its like when they are loaded, which in a forked server was long ago and for nobody. Finding
them takes 10 ms, so a template looks for them once for all its children.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_found: list[Any] = []
"""The controller of the libraries that a template found, if there is one."""


def find_native_libraries() -> None:
    """Looks for what is loaded now; called by a template after its imports."""
    _found[:] = _controller()


def limit_native_threads(env: Mapping[str, str]) -> None:
    """Tells loaded libraries the number in the environment; those loaded later read it themselves."""
    wanted = next((env[name] for name in VARIABLES if env.get(name, "").isdigit()), None)
    if wanted is None or "numpy" not in sys.modules:
        return
    for controller in _found or _controller():
        controller.limit(limits=int(wanted))


def _controller() -> list[Any]:
    try:
        threadpoolctl = import_module("threadpoolctl")
    except ImportError:  # Not a dependency of ours: it comes with scikit-learn.
        return []
    return [threadpoolctl.ThreadpoolController()]
