"""The loop that every kind's controller runs in: changes become keys, keys become calls of one reconcile function.

The function sees a key and nothing of the event, so it must decide from the state of the world alone; that is why a lost,
repeated or reordered event does no harm.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from weakref import WeakSet

from controller.base.clock import Clock
from controller.base.errors import TransientError, UserError
from controller.base.exposition import Family
from controller.base.json import JsonView
from controller.base.logging import get_logger
from controller.kube.errors import Rejected
from controller.kube.informer import Informer
from controller.kube.store import Change
from controller.reconcile.plan import Key, Outcome
from controller.reconcile.queue import WorkQueue
from controller.reconcile.statistics import ReconcileStatistics, collect_statistics

RECONCILE_MAX_S = 60.0
"""Longest reconcile; past it the attempt counts as failed. Twice the deadline of one request to the API server. A guess."""

REFUSED_RETRY_S = 60.0
"""When a write that the API server refused is tried again; the end of the back-off. A guess."""

log = get_logger(__name__)

_running: WeakSet[Controller] = WeakSet()
"""Only for metrics: every controller of the process, wherever it was made."""

Reconcile = Callable[[Key], Awaitable[Outcome]]
KeysOf = Callable[[JsonView], Iterable[Key]]


class Controller:
    """Calls `reconcile` for keys, at most `workers` at once and never twice at once for the same key."""

    def __init__(self, name: str, reconcile: Reconcile, *, workers: int, clock: Clock, rng: random.Random) -> None:
        self.name = name
        self._reconcile = reconcile
        self._workers = workers
        self._clock = clock
        self._queue = WorkQueue(clock, rng)
        self._statistics = ReconcileStatistics()
        self._informers: list[Informer] = []

    def watch(self, informer: Informer, keys_of: KeysOf) -> None:
        """Reconciles what `keys_of` says whenever an object of this informer changes: of its old and of its new state.

        `run` waits for the informer's first list; running the informer is the caller's task.
        """

        def on_change(change: Change) -> None:
            for state in (change.object, change.old):
                for key in keys_of(state) if state is not None else ():
                    self._queue.add(key)

        self._informers.append(informer)
        informer.subscribe(on_change)

    def enqueue(self, key: Key, after_s: float = 0) -> None:
        """Reconciles `key` soon, or after a delay."""
        self._queue.add_after(key, after_s)

    async def run(self) -> None:
        """Works until cancelled, from when all informers that it watches have their first list."""
        for informer in self._informers:
            await informer.synced()
        _running.add(self)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._workers):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            await self._one(await self._queue.take())

    async def _one(self, key: Key) -> None:
        started_s, success = self._clock.monotonic_s(), False
        try:
            async with asyncio.timeout(RECONCILE_MAX_S):
                outcome = await self._reconcile(key)
        except UserError as error:
            log.warning("refused", controller=self.name, namespace=key.namespace, object=key.name, error=str(error))
            self._queue.done(key)
            # Whoever can mend it changes an object, and that change brings the key back. Only what the API server
            # refuses may depend on things that nobody here watches: quotas, webhooks, rights.
            if isinstance(error, Rejected):
                self._queue.add_after(key, REFUSED_RETRY_S)
        except (TransientError, TimeoutError) as error:
            retry_s = self._queue.retry(key)
            cause = str(error) or "deadline passed"
            log.info(
                "later",
                controller=self.name,
                namespace=key.namespace,
                object=key.name,
                cause=cause,
                retry_s=round(retry_s, 2),
            )
        except Exception:  # The top of the loop: a bug about one object must not stop the work on all the others.
            retry_s = self._queue.retry(key)
            log.exception("reconcile failed", controller=self.name, namespace=key.namespace, object=key.name)
        else:
            success = True
            self._queue.done(key)
            if outcome.requeue_after_s is not None:
                self._queue.add_after(key, outcome.requeue_after_s)
        finally:
            self._statistics.ended(self._clock.monotonic_s() - started_s, success=success)

    @property
    def state(self) -> tuple[str, ReconcileStatistics, int]:
        """Its name, what it did, and how many keys wait."""
        return self.name, self._statistics, self._queue.waiting


def collect_controllers() -> Iterable[Family]:
    """The metrics of every controller of this process that has begun to work."""
    return collect_statistics(sorted((each.state for each in _running), key=lambda state: state[0]))
