"""A live copy of one kind's objects: list once, watch from there, and recover from whatever interrupts that.

Bookmarks keep the version fresh on quiet kinds, so that a new watch rarely needs a new list. A version that is too old
(410) means listing again; the difference goes to the subscribers like any other change. A watch that falls silent is
given up by the client's deadline. What the copy holds and which version wins is decided in controller.kube.store.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from contextlib import aclosing

from controller.base.clock import Clock
from controller.base.errors import TransientError, UserError
from controller.base.json import JsonView
from controller.base.logging import get_logger
from controller.kube.client import KubeClient, WatchEvent, WatchType
from controller.kube.errors import Gone
from controller.kube.resources import ResourceType
from controller.kube.store import Change, ChangeKind, KeysOf, Store, version_of

__all__ = ["Change", "ChangeKind", "Informer"]

WATCH_MIN_S = 300.0
WATCH_MAX_S = 600.0
"""A watch is asked to last 5 to 10 minutes, drawn anew each time, as Kubernetes' informers do: watches that began
together do not end together."""
BACKOFF_MIN_S = 0.1
BACKOFF_MAX_S = 10.0
"""Waiting between failures doubles between these. A guess: a restarted API server on this machine is back in 0.5 s, and
a broken one must not be hammered."""
HEALTHY_WATCH_S = 5.0
"""A watch that lasted this long, or brought something, was healthy and ends the back-off. A guess."""

log = get_logger(__name__)

OnChange = Callable[[Change], None]
Keep = Callable[[JsonView], JsonView]


class Informer:
    """Objects of one kind that match the selectors, as of now or a moment ago.

    Objects are shared with all readers: nobody may change them. Subscribers run in the informer's loop, must not block, and
    see each change once, in order; those that come after the first list see what is there as ADDED. Where a reader needs
    only a part of each object, `keep` returns that part (metadata at least) and the rest costs no memory.
    """

    def __init__(
        self,
        client: KubeClient,
        resource: ResourceType,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        clock: Clock,
        rng: random.Random,
        keep: Keep | None = None,
    ) -> None:
        self.resource = resource
        self._client = client
        self._namespace = namespace
        self._selectors = {"label_selector": label_selector, "field_selector": field_selector}
        self._clock = clock
        self._rng = rng
        self._keep = keep
        self._store = Store()
        self._synced = asyncio.Event()
        self._subscribers: list[OnChange] = []
        self._backoff_s = BACKOFF_MIN_S

    async def run(self) -> None:
        """Keeps the copy fresh until cancelled."""
        version = ""
        while True:
            try:
                if not version:
                    version = await self._list()
                version = await self._watch(version)
            except Gone:
                log.info("watch expired", resource=self.resource.plural)
                version = ""
                await self._back_off()  # Else a server whose lists are always too old would be asked without a pause.
            except (TransientError, UserError) as error:
                # A user error (no permission, a kind that is not installed yet) can be mended while we run.
                log.warning(
                    "watch failed", resource=self.resource.plural, error=str(error), retry_s=round(self._backoff_s, 1)
                )
                version = str(self._store.version or "") if self._synced.is_set() else ""
                await self._back_off()

    async def synced(self) -> None:
        """Returns once the first list is in."""
        await self._synced.wait()

    def get(self, namespace: str, name: str) -> JsonView | None:
        """The object; `namespace` is "" for kinds without namespaces."""
        return self._store.get((namespace, name))

    def items(self, namespace: str | None = None) -> Iterable[JsonView]:
        """All objects, or those of a namespace; safe to keep while the copy changes."""
        return self._store.items(namespace)

    def add_index(self, name: str, keys_of: KeysOf) -> None:
        """Lets `indexed` find objects by what `keys_of` returns for them."""
        self._store.add_index(name, keys_of)

    def indexed(self, name: str, key: str) -> list[JsonView]:
        """The objects that stand under `key` in the index `name`."""
        return self._store.indexed(name, key)

    def subscribe(self, on_change: OnChange) -> None:
        """Calls `on_change` for each change from now on, and at once for what is there."""
        self._subscribers.append(on_change)
        for item in self._store.items():
            on_change(Change(ChangeKind.ADDED, item))

    def remember(self, obj: JsonView) -> None:
        """Takes the answer to a write of our own: readers see it at once, and no late event takes it back."""
        self._publish(self._store.remember(self._part(obj)))

    async def _list(self) -> str:
        found = await self._client.list(self.resource, self._namespace, **self._selectors)
        version = int(found.resource_version) if found.resource_version.isdecimal() else 0
        self._publish(self._store.replace(map(self._part, found.items), version))
        self._synced.set()
        return found.resource_version

    async def _watch(self, version: str) -> str:
        started_s = self._clock.monotonic_s()
        events = self._client.watch(
            self.resource,
            self._namespace,
            resource_version=version,
            timeout_s=self._rng.uniform(WATCH_MIN_S, WATCH_MAX_S),
            **self._selectors,
        )
        async with aclosing(events):
            async for event in events:
                self._backoff_s = BACKOFF_MIN_S
                version = str(event.object["metadata"]["resourceVersion"])
                self._take(event)
        if self._clock.monotonic_s() - started_s < HEALTHY_WATCH_S:
            await self._back_off()  # A server that hangs up at once, without an error, must not be hammered either.
        else:
            self._backoff_s = BACKOFF_MIN_S
        return version

    def _take(self, event: WatchEvent) -> None:
        if event.type is WatchType.BOOKMARK:
            self._store.pass_version(version_of(event.object))
        else:
            self._publish(self._store.observe(self._part(event.object), deleted=event.type is WatchType.DELETED))

    def _part(self, item: JsonView) -> JsonView:
        return self._keep(item) if self._keep else item

    async def _back_off(self) -> None:
        # Full jitter on the upper half: clients that failed together do not come back together.
        await asyncio.sleep(self._backoff_s * self._rng.uniform(0.5, 1.0))
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_MAX_S)

    def _publish(self, changes: Iterable[Change]) -> None:
        for change in changes:
            for on_change in self._subscribers:
                on_change(change)
