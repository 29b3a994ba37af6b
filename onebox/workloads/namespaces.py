"""Namespaces: a default ServiceAccount for each, and the end of those that are being deleted.

A namespace that is deleted stays, Terminating, until everything in it is gone; then its `kubernetes` finalizer is removed
and the API server forgets it.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from controller.base.clock import Clock
from controller.base.json import JsonView
from controller.base.logging import get_logger
from controller.kube.client import KubeClient
from controller.kube.errors import AlreadyExists, Gone, NotFound
from controller.kube.informer import Informer
from controller.kube.resources import NAMESPACES, SERVICE_ACCOUNTS, ResourceType
from controller.reconcile.controller import Controller
from controller.reconcile.plan import Key, Outcome

FINALIZER = "kubernetes"
DEFAULT_ACCOUNT = "default"
WORKERS = 2
LOOK_AGAIN_S = 0.25
"""How often a namespace is looked at whose content is on its way out. A guess: pods take about a second to drain."""

log = get_logger(__name__)


class NamespaceController:
    """Looks after namespaces. `kinds` returns every kind that may have objects in one."""

    def __init__(
        self,
        client: KubeClient,
        *,
        namespaces: Informer,
        accounts: Informer,
        kinds: Callable[[], tuple[ResourceType, ...]],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._client = client
        self._namespaces = namespaces
        self._accounts = accounts
        self._kinds = kinds
        self.loop = Controller("namespaces", self.reconcile, workers=WORKERS, clock=clock, rng=rng)
        self.loop.watch(namespaces, lambda item: [Key("", item["metadata"]["name"])])
        self.loop.watch(accounts, _namespace_of_default)

    async def reconcile(self, key: Key) -> Outcome:
        """Brings one namespace on its way: furnished, or emptied and gone."""
        stored = self._namespaces.get(*key)
        if stored is None:
            return Outcome()
        if not stored["metadata"].get("deletionTimestamp"):
            await self._furnish(key.name)
            return Outcome()
        if FINALIZER not in ((stored.get("spec") or {}).get("finalizers") or ()):
            return Outcome()  # Emptied already; what remains is up to finalizers of others.
        if await self._empty(key.name):
            await self._finalize(stored)
            return Outcome()
        return Outcome(requeue_after_s=LOOK_AGAIN_S)

    async def _furnish(self, namespace: str) -> None:
        if self._accounts.get(namespace, DEFAULT_ACCOUNT) is not None:
            return
        meta = {"name": DEFAULT_ACCOUNT, "namespace": namespace}
        try:
            body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}
            self._accounts.remember(await self._client.create(SERVICE_ACCOUNTS, body))
        except AlreadyExists:
            return

    async def _empty(self, namespace: str) -> bool:
        """Asks for the deletion of everything in the namespace; whether nothing was left."""
        left = 0
        for resource in self._kinds():
            if not resource.namespaced:
                continue
            try:
                found = await self._client.list(resource, namespace)
            except (NotFound, Gone):  # The kind itself is gone, and its objects with it.
                continue
            left += len(found.items)
            for item in found.items:
                meta = item["metadata"]
                if not meta.get("deletionTimestamp"):
                    await self._client.delete(resource, meta["name"], namespace, uid=meta["uid"])
        return left == 0

    async def _finalize(self, stored: JsonView) -> None:
        finalizers = [finalizer for finalizer in stored["spec"]["finalizers"] if finalizer != FINALIZER]
        body = {**stored, "spec": {**stored["spec"], "finalizers": finalizers}}
        try:
            self._namespaces.remember(await self._client.replace(NAMESPACES, body, subresource="finalize"))
        except NotFound:
            return
        log.info("emptied", namespace=stored["metadata"]["name"])


def _namespace_of_default(account: JsonView) -> list[Key]:
    meta = account["metadata"]
    return [Key("", meta["namespace"])] if meta["name"] == DEFAULT_ACCOUNT else []
