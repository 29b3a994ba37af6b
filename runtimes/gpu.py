"""Whether this machine has a GPU at all, before any library is asked for one."""

from __future__ import annotations

from pathlib import Path

_DEVICES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")
"""Where one shows: natively, and in WSL."""


def gpu_present() -> bool:
    """Whether an NVIDIA device is there. Libraries may still not be able to use it."""
    return any(Path(device).exists() for device in _DEVICES)
