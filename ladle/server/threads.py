"""Thread counts of numeric libraries in a process that was forked with them loaded.

They read OMP_NUM_THREADS and its like when they are loaded, which in a forked server was long ago and for nobody.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def limit_native_threads(env: Mapping[str, str]) -> None:
    """Tells loaded libraries the number in the environment; those loaded later read it themselves."""
    wanted = next((env[name] for name in VARIABLES if env.get(name, "").isdigit()), None)
    if wanted is None or "numpy" not in sys.modules:
        return
    try:
        threadpoolctl = import_module("threadpoolctl")
    except ImportError:  # Not a dependency of ours: it comes with scikit-learn.
        return
    threadpoolctl.threadpool_limits(int(wanted))
