"""What we write beside what was recorded: every difference has to stand in a table, with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Reasons = Mapping[str, str]
"""Regular expressions over paths (`spec.template.spec.containers[1].image`), and why these may differ."""


def differences(ours: Any, recorded: Any, path: str = "") -> Iterator[str]:
    """The paths where the two differ. Containers, ports and variables are compared in their order."""
    if isinstance(ours, Mapping) and isinstance(recorded, Mapping):
        for key in sorted(ours.keys() | recorded.keys()):
            yield from differences(ours.get(key), recorded.get(key), f"{path}.{key}" if path else key)
    elif isinstance(ours, list) and isinstance(recorded, list) and len(ours) == len(recorded):
        for index, (left, right) in enumerate(zip(ours, recorded, strict=True)):
            yield from differences(left, right, f"{path}[{index}]")
    elif ours != recorded:
        yield path


def unexplained(ours: Any, recorded: Any, reasons: Reasons) -> list[str]:
    """The differences that no reason covers."""
    patterns = [re.compile(pattern) for pattern in reasons]
    return [path for path in differences(ours, recorded) if not any(pattern.fullmatch(path) for pattern in patterns)]


def conditions(status: Mapping[str, Any]) -> dict[str, tuple[str, str, str, str]]:
    """Status, reason, message and severity of each condition by type."""
    return {
        found["type"]: (
            found["status"],
            found.get("reason", ""),
            found.get("message", ""),
            found.get("severity", ""),
        )
        for found in status["conditions"]
    }
