"""What the gateway really does: which generation of a VirtualService Envoy has accepted, and what it refused.

The translation writes here, the route reconciler in the same process reads: a Route is Ready when requests are routed, not
when somebody wrote down that they should be.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from controller.base.json import JsonView
from onebox.home import Home


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionId:
    """One generation of one VirtualService."""

    namespace: str
    name: str
    uid: str
    generation: int


OnLive = Callable[[str, str], None]
"""Gets the namespace and name of a VirtualService."""


class LiveConfig:
    """Generations in force, by uid. All calls belong in one event loop."""

    def __init__(self) -> None:
        self._generations: dict[str, int] = {}
        self._refusals: dict[str, tuple[int, str]] = {}
        self._subscribers: list[OnLive] = []

    def is_live(self, virtual_service: JsonView) -> bool:
        """Whether requests are routed by this VirtualService as it stands here, or by a newer state of it."""
        meta = virtual_service["metadata"]
        return self.generation_of(meta["uid"]) >= int(meta.get("generation") or 1)

    def generation_of(self, uid: str) -> int:
        """The generation that requests are routed by; 0 where there is none yet."""
        return self._generations.get(uid, 0)

    def refusal_of(self, uid: str, generation: int) -> str:
        """Why this generation is not served; "" where nothing is wrong with it."""
        refused, message = self._refusals.get(uid, (0, ""))
        return message if refused == generation else ""

    def subscribe(self, on_live: OnLive) -> None:
        """Calls `on_live` for each VirtualService that came into force or was refused; it must not block."""
        self._subscribers.append(on_live)

    def accept(self, version: VersionId) -> None:
        """Envoy routes by this generation."""
        self._refusals.pop(version.uid, None)
        self._generations[version.uid] = version.generation
        self._tell(version)

    def refuse(self, version: VersionId, message: str) -> None:
        """This generation cannot be served; what was in force before stays so."""
        self._refusals[version.uid] = (version.generation, message)
        self._tell(version)

    def forget(self, uid: str) -> None:
        """The VirtualService is gone."""
        self._generations.pop(uid, None)
        self._refusals.pop(uid, None)

    def _tell(self, version: VersionId) -> None:
        for on_live in self._subscribers:
            on_live(version.namespace, version.name)


def live_config(home: Home) -> LiveConfig:
    """The one LiveConfig of a home in this process: where its writer and its readers meet."""
    return _of_root(home.root)


@functools.cache
def _of_root(_root: Path) -> LiveConfig:
    return LiveConfig()
