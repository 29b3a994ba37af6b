"""Gets the service accounts and secrets that hold the credentials for a service's models.

They are read one by one and by name, and only when a service needs them: a watch would take the right to list every secret of
the cluster, and would copy them all here. What a plan need not know is dropped at once (secrets.py). Changes are therefore
noticed a moment later, or at the next pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from controller.base.clock import Clock
from controller.base.json import JsonView
from controller.inferenceservice.components import Component
from controller.inferenceservice.credentials import DEFAULT_ACCOUNT, logger_account, names_to_read, storage_secret_name
from controller.inferenceservice.secrets import AccountView, Identities, SecretView, view_account, view_secret
from controller.inferenceservice.snapshot import Snapshot
from controller.inferenceservice.sources import sources_of
from controller.kube.client import KubeClient
from controller.kube.errors import NotFound
from controller.kube.resources import SECRETS, SERVICE_ACCOUNTS, ResourceType

FOUND_FRESH_S: Final = 10.0
"""How long an answer is good: a service that starts is looked at several times a second. A guess."""
MISSING_FRESH_S: Final = 1.0
"""The same where nothing was there: somebody is about to create it. A guess."""
_KEPT_MAX: Final = 10_000
"""Answers kept; older ones go first to be forgotten when there are more."""

View = TypeVar("View")


@dataclass(slots=True)
class _Reading:
    """What one service needs, as far as it was read."""

    accounts: dict[str, AccountView | None] = field(default_factory=dict)
    secrets: dict[str, SecretView | None] = field(default_factory=dict)


class IdentityReader:
    """Reads by name, and remembers for some seconds."""

    def __init__(self, client: KubeClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[tuple[str, str, str], tuple[float, object]] = {}

    async def read(self, snapshot: Snapshot) -> Identities:
        """What the plan for this service will ask for; UserError where this controller may not read it."""
        reading, namespace = _Reading(), snapshot.service.metadata.namespace
        for component in snapshot.components:
            annotations = {**snapshot.service.metadata.annotations, **component.spec.annotations}
            await self._read_for(reading, component, annotations, snapshot)
            logger = component.spec.logger
            if logger is not None and logger.storage is not None:
                account = logger_account(logger.storage)
                await self._read_account(reading, component.namespace, account, annotations, snapshot)
        return Identities(namespace=namespace, accounts=reading.accounts, secrets=reading.secrets)

    async def _read_for(
        self, reading: _Reading, component: Component, annotations: Mapping[str, str], snapshot: Snapshot
    ) -> None:
        fetched = [source for source in sources_of(component.spec) if not source.is_claim]
        settings, namespace = snapshot.settings.credentials, component.namespace
        if not fetched:
            return
        if fetched[0].store is not None:
            name = storage_secret_name(settings, annotations)
            reading.secrets[name] = await self._get(SECRETS, namespace, name, view_secret)
        else:
            account = component.spec.serviceAccountName or DEFAULT_ACCOUNT
            await self._read_account(reading, namespace, account, annotations, snapshot)

    async def _read_account(
        self, reading: _Reading, namespace: str, account: str, annotations: Mapping[str, str], snapshot: Snapshot
    ) -> None:
        found = await self._get(SERVICE_ACCOUNTS, namespace, account, view_account)
        reading.accounts[account] = found
        for name in names_to_read(found, annotations, snapshot.settings.credentials):
            reading.secrets[name] = await self._get(SECRETS, namespace, name, view_secret)

    async def _get(
        self, resource: ResourceType, namespace: str, name: str, view: Callable[[JsonView], View]
    ) -> View | None:
        place, now_s = (resource.plural, namespace, name), self._clock.monotonic_s()
        known = self._known.get(place)
        if known is not None and now_s - known[0] < (FOUND_FRESH_S if known[1] is not None else MISSING_FRESH_S):
            return known[1]  # type: ignore[return-value]  # A place has one kind, hence one view.
        try:
            found = view(await self._client.get(resource, name, namespace))
        except NotFound:
            found = None
        self._known.pop(place, None)  # So that the order is that of reading.
        self._known[place] = now_s, found
        while len(self._known) > _KEPT_MAX:
            self._known.pop(next(iter(self._known)))
        return found
