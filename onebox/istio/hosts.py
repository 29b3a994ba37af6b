"""Who answers for which host: VirtualServices grouped into Envoy's virtual hosts (pure).

Envoy wants each domain in one virtual host. Hosts that the same VirtualServices claim share one; where several claim a
host, the oldest one's routes come first (Istio leaves that order open), and the one that takes everything comes last.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from onebox.istio.registry import Listener

ServiceKey = tuple[str, str]
"""Namespace and name of a VirtualService."""


class Group(NamedTuple):
    """A virtual host of one listener: the VirtualServices whose routes it has, oldest first."""

    listener: Listener
    owners: tuple[ServiceKey, ...]

    @property
    def name(self) -> str:
        return "+".join(f"{namespace}/{name}" for namespace, name in self.owners)


class HostTable:
    """Claims to hosts, and the groups that follow from them."""

    def __init__(self) -> None:
        self._claims: dict[tuple[Listener, str], dict[ServiceKey, str]] = {}
        self._claimed: dict[tuple[Listener, ServiceKey], tuple[str, ...]] = {}
        self._group_of: dict[tuple[Listener, str], Group] = {}
        self._domains: dict[Group, set[str]] = {}
        self._changed: set[Group] = set()

    def claim(self, listener: Listener, key: ServiceKey, *, created: str, hosts: Iterable[str]) -> None:
        """Sets the hosts that a VirtualService claims on a listener; `created` is its creation time."""
        wanted = tuple(dict.fromkeys(hosts))
        before = self._claimed.pop((listener, key), ())
        if wanted:
            self._claimed[(listener, key)] = wanted
        for host in {*before, *wanted}:
            claims = self._claims.setdefault((listener, host), {})
            claims.pop(key, None)
            if host in wanted:
                claims[key] = created
            self._regroup(listener, host, claims)

    def owners(self, listener: Listener, host: str) -> tuple[ServiceKey, ...]:
        """Who claims this very host, oldest first."""
        group = self._group_of.get((listener, host))
        return group.owners if group else ()

    def groups_of(self, listener: Listener, key: ServiceKey) -> set[Group]:
        """The virtual hosts that have routes of this VirtualService."""
        return {self._group_of[(listener, host)] for host in self._claimed.get((listener, key), ())}

    def hosts_of(self, listener: Listener, key: ServiceKey) -> tuple[str, ...]:
        return self._claimed.get((listener, key), ())

    def domains(self, group: Group) -> list[str]:
        """The hosts of a group, sorted; empty once nobody claims them."""
        return sorted(self._domains.get(group, ()))

    def shared(self) -> list[Group]:
        """The groups of several VirtualServices, in a fixed order."""
        return sorted(group for group in self._domains if len(group.owners) > 1)

    def take_changed(self) -> set[Group]:
        """The groups whose hosts changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def has_changed(self) -> bool:
        return bool(self._changed)

    def _regroup(self, listener: Listener, host: str, claims: dict[ServiceKey, str]) -> None:
        at = (listener, host)
        old = self._group_of.pop(at, None)
        owners = tuple(sorted(claims, key=lambda key: (claims[key], key)))
        new = Group(listener, owners) if owners else None
        if new is None:
            del self._claims[at]
        else:
            self._group_of[at] = new
        if old == new:
            return
        if old is not None:
            self._changed.add(old)
            self._domains[old].discard(host)
            if not self._domains[old]:
                del self._domains[old]
        if new is not None:
            self._changed.add(new)
            self._domains.setdefault(new, set()).add(host)
