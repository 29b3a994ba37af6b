"""onnxruntime, imported so that it keeps to itself.

Its builds for Linux from 1.29 on send events to Microsoft unless told otherwise: for each session the file's name, the
graph's and hashes of its weights. A model server must not, and the thread that does it starts with the import and does
not survive a fork.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

TELEMETRY_VARIABLE = "ORT_DISABLE_TELEMETRY"


def import_onnxruntime() -> Any:
    """The module, without telemetry; ImportError where it is not installed."""
    os.environ[TELEMETRY_VARIABLE] = "1"
    return import_module("onnxruntime")
