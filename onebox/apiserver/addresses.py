"""The cluster IPs that services have, known without a look at every service for each new one."""

from __future__ import annotations

from collections import Counter

from onebox.apiserver.storage.records import Change, ChangeType, Record
from onebox.apiserver.storage.store import Store

_SERVICES = "services"
_FIELD = "spec.clusterIP"


class ServiceAddresses:
    """Follows the store."""

    def __init__(self, store: Store) -> None:
        self._taken = Counter(map(_address, store.select(_SERVICES)))
        store.subscribe(self._on_change)

    def is_taken(self, address: str) -> bool:
        """Whether a stored service has this address."""
        return self._taken[address] > 0

    def _on_change(self, change: Change) -> None:
        if change.record.key.resource != _SERVICES:
            return
        if change.type is not ChangeType.ADDED:
            self._release(_address(change.previous or change.record))
        if change.type is not ChangeType.DELETED:
            self._taken[_address(change.record)] += 1

    def _release(self, address: str) -> None:
        self._taken[address] -= 1
        if self._taken[address] <= 0:
            del self._taken[address]


def _address(service: Record) -> str:
    return service.fields.get(_FIELD, "")
