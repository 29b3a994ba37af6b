"""Brings Envoy from what it has to what it should have, and learns what it refuses.

Order: endpoints before the clusters that read them, clusters before the routes that name them, and the other way round
for what goes. Files give no answer, so Envoy's statistics are asked after each: the version in force is the content's, or
the number of refusals grew. A refused table is halved until what is wrong stands alone; that stays out, in the form it had
before, and everything else comes into force.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from controller.base.clock import Clock
from controller.base.logging import get_logger
from onebox.istio.admin import CLUSTERS, Admin, EnvoyAway
from onebox.istio.explain import explain_cluster, explain_virtual_host
from onebox.istio.files import ConfigFiles, parse_clusters, parse_routes, render_routes, wire_path
from onebox.istio.registry import Listener
from onebox.istio.translation import Desired, Offer
from onebox.istio.wire_tables import WireTable, cluster_table, route_table
from onebox.istio.xds import render_response

_POLL_FIRST_S = 0.001
_POLL_MAX_S = 0.005
"""Envoy is asked for its verdict after 1 ms, then less and less often. It answers when it is done with what it reads, so a
question hardly costs it anything: for a few services it takes 3 ms, for 500 some 100 ms."""
_VERDICT_TIMEOUT_S = 10.0
"""Envoy reads 1,000 virtual hosts in 50 ms; on a machine that starts hundreds of processes it can take seconds. A guess."""

log = get_logger(__name__)

Resources = Mapping[str, bytes]


class Verdict(Enum):
    ACCEPTED = auto()
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that Envoy does not take, and why."""

    table: str
    name: str
    reason: str


@dataclass(slots=True, kw_only=True)
class Table:
    """One file of many resources: those that Envoy has confirmed, and those that it refused in this form."""

    name: str
    path: Path
    render: Callable[[Iterable[bytes]], tuple[str, bytes]]
    parse: Callable[[bytes], dict[str, bytes]]
    explain: Callable[[bytes], Awaitable[str]]
    wire: WireTable
    confirmed: dict[str, bytes] = field(default_factory=dict)
    version: str = ""
    """The version of a file that holds just what is confirmed; "" where nobody knows what Envoy has."""
    refused: dict[str, bytes] = field(default_factory=dict)

    def additions(self, desired: Resources) -> dict[str, bytes | None]:
        """What is new or different, apart from what was refused just so."""
        return {
            name: content
            for name, content in desired.items()
            if self.confirmed.get(name) != content and self.refused.get(name) != content
        }

    def removals(self, desired: Resources) -> dict[str, bytes | None]:
        return {name: None for name in self.confirmed if name not in desired}

    def rendered(self, resources: Iterable[bytes]) -> tuple[str, bytes, bytes]:
        """Version, and content in JSON and in Envoy's form, of a table with these resources."""
        found = tuple(resources)
        version, content = self.render(found)
        return version, content, self.wire.render(version, found)

    def with_changes(self, changes: Mapping[str, bytes | None]) -> dict[str, bytes]:
        merged = {**self.confirmed, **changes}
        return {name: content for name, content in sorted(merged.items()) if content is not None}


class Publisher:
    """Writes and watches the tables of one Envoy."""

    def __init__(self, files: ConfigFiles, admin: Admin, clock: Clock) -> None:
        self._files = files
        self._admin = admin
        self._clock = clock
        self._adopted = False
        self.spent_s = 0.0
        """How long the last `publish` waited for Envoy."""
        self._clusters = Table(
            name=CLUSTERS,
            path=files.clusters,
            render=render_response,
            parse=parse_clusters,
            explain=explain_cluster,
            wire=cluster_table(),
        )
        self._routes = {listener: self._route_table(listener) for listener in Listener}

    def _route_table(self, listener: Listener) -> Table:
        return Table(
            name=listener.value,
            path=self._files.routes(listener),
            render=lambda hosts: render_routes(listener, hosts),
            parse=parse_routes,
            explain=explain_virtual_host,
            wire=route_table(listener),
        )

    async def publish(self, desired: Desired) -> list[Refusal]:
        """Brings `desired` into force as far as Envoy takes it, and returns what it does not take; EnvoyAway at any step."""
        started_s = self._clock.monotonic_s()
        for cluster, assignment in desired.endpoints.items():
            # Before anything is awaited: later ones may be written meanwhile, and must not be overwritten.
            self._files.write_endpoints(cluster, assignment)
        await self._adopt()
        refusals = await self._offer(self._clusters, self._clusters.additions(desired.clusters))
        for listener, table in self._routes.items():
            hosts = desired.virtual_hosts[listener]
            refusals += await self._offer(table, {**table.additions(hosts), **table.removals(hosts)})
            _forget(table, hosts)
        if not any(table.refused for table in self._routes.values()):
            # Else routes may still be in force that nobody desires any more, and they need their clusters.
            refusals += await self._offer(self._clusters, self._clusters.removals(desired.clusters))
            self._files.remove_endpoints_but(desired.endpoints)
        _forget(self._clusters, desired.clusters)
        self.spent_s = self._clock.monotonic_s() - started_s
        return refusals

    def is_in_force(self, offer: Offer, desired: Desired) -> bool:
        """Whether all that this generation consists of has been confirmed."""
        return (
            offer.complete
            and all(
                self._routes[listener].confirmed.get(name) == desired.virtual_hosts[listener].get(name, b"")
                for listener, name in offer.virtual_hosts
            )
            and all(name in self._clusters.confirmed for name in offer.clusters)
        )

    async def audit(self) -> None:
        """Makes Envoy read again what it should have but has not: a file whose change it missed, or one from a crash."""
        state = await self._admin.state()
        for table in (self._clusters, *self._routes.values()):
            if self._adopted and state.tables[table.name].version != table.version:
                log.warning("configuration is not in force, writing it again", table=table.name)
                _, content, wire = await asyncio.to_thread(table.rendered, table.with_changes({}).values())
                await asyncio.to_thread(self._files.write_table, table.path, content, wire, always=True)

    def write_blindly(self, desired: Desired) -> None:
        """Writes the clusters without waiting for anybody: for an Envoy that cannot start with those that are there."""
        table = self._clusters
        names = desired.clusters.keys() - table.wire.unencodable(desired.clusters)
        _, content, wire = table.rendered(desired.clusters[name] for name in sorted(names))
        self._files.write_table(table.path, content, wire)

    async def _adopt(self) -> None:
        """Takes what Envoy has in force for confirmed, so that a restart of ours changes nothing."""
        if self._adopted:
            return
        state = await self._admin.state()
        for table in (self._clusters, *self._routes.values()):
            found, version = await asyncio.to_thread(_read, table)
            if version and state.tables[table.name].version == version:
                table.confirmed, table.version = found, version
        self._adopted = True

    async def _offer(self, table: Table, changes: Mapping[str, bytes | None]) -> list[Refusal]:
        """Makes the changes, or as many of them as Envoy takes."""
        unencodable = await asyncio.to_thread(table.wire.unencodable, changes)
        refusals = [await _refuse(table, name, changes[name]) for name in sorted(unencodable)]
        sound = {name: content for name, content in changes.items() if name not in unencodable}
        return refusals + await self._offer_encodable(table, sound)

    async def _offer_encodable(self, table: Table, changes: Mapping[str, bytes | None]) -> list[Refusal]:
        if not changes and table.version:
            return []
        target = table.with_changes(changes)
        if await self._try(table, target) is Verdict.ACCEPTED:
            table.confirmed = target
            return []
        if len(changes) > 1:
            names = sorted(changes)
            middle = len(names) // 2
            halves = ({name: changes[name] for name in part} for part in (names[:middle], names[middle:]))
            return [refusal for half in halves for refusal in await self._offer_encodable(table, half)]
        await self._try(table, table.with_changes({}))  # Back to what is known to be good.
        name, content = next(iter(changes.items()), ("", None))
        # Envoy cannot refuse what leaves; the audit sees to the rest.
        return [] if content is None else [await _refuse(table, name, content)]

    async def _try(self, table: Table, target: Mapping[str, bytes]) -> Verdict:
        version, content, wire = await asyncio.to_thread(table.rendered, target.values())
        before = (await self._admin.state()).tables[table.name]
        if not await asyncio.to_thread(self._files.write_table, table.path, content, wire):
            if before.version == version:
                table.version = version
                return Verdict.ACCEPTED
            await asyncio.to_thread(self._files.write_table, table.path, content, wire, always=True)
        pause_s = _POLL_FIRST_S
        deadline_s = self._clock.monotonic_s() + _VERDICT_TIMEOUT_S
        while self._clock.monotonic_s() < deadline_s:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _POLL_MAX_S)
            state = await self._admin.state()
            now = state.tables[table.name]
            if now.version == version and (table.name != CLUSTERS or not state.warming):
                table.version = version
                return Verdict.ACCEPTED
            if now.refused > before.refused:
                return Verdict.REFUSED
        raise EnvoyAway(f"no verdict on {table.name} within {_VERDICT_TIMEOUT_S:.0f} s")


async def _refuse(table: Table, name: str, content: bytes | None) -> Refusal:
    assert content is not None, f"{name} leaves"
    table.refused[name] = content
    return Refusal(table.name, name, await table.explain(content))


def _read(table: Table) -> tuple[dict[str, bytes], str]:
    """What an earlier run wrote, and its version; "" where it did not come to the end of it, or it is not ours."""
    try:
        found = table.parse(table.path.read_bytes())
        version, _, wire = table.rendered(found.values())
        complete = wire_path(table.path).read_bytes() == wire
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}, ""  # It will be replaced.
    return (found, version) if complete else ({}, "")


def _forget(table: Table, desired: Resources) -> None:
    """Drops refusals of what is not asked for any more."""
    table.refused = {name: content for name, content in table.refused.items() if desired.get(name) == content}
