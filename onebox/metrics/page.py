"""The page: what this process knows, what the other processes say over their sockets, and what Envoy counted.

Each source has a deadline. One that does not answer is missing from the page, and the page says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import chain

from controller.base.exposition import Collect, Family, parse_page, render_labels, render_page
from controller.base.logging import get_logger
from controller.base.metrics_socket import PageTooLarge

SOURCE_MAX_S = 2.0
"""Longest wait for a source; Prometheus gives up a page after 10 s by default. A guess: they take milliseconds."""

Read = Callable[[], Awaitable[Iterable[Family]]]

log = get_logger(__name__)


class SourceAway(Exception):
    """A source has nothing to say now; the text says why."""


class Page:
    """Collectors of this process, and sources elsewhere by name."""

    def __init__(self, collectors: Iterable[Collect], sources: Mapping[str, Read]) -> None:
        self._collectors = tuple(collectors)
        self._sources = dict(sources)
        self._failures = dict.fromkeys(self._sources, 0)
        self._one_at_a_time = asyncio.Lock()

    async def render(self) -> str:
        """The page as it is now. Who asks while another one is being made waits for that first."""
        async with self._one_at_a_time:
            answers = await asyncio.gather(*(self._ask(name) for name in self._sources))
            up = Family("ladle_metrics_source_up", "gauge", "Whether a source of this page answered")
            failures = Family("ladle_metrics_source_failures_total", "counter", "How often a source did not answer")
            for name, answer in zip(self._sources, answers, strict=True):
                labels = render_labels(source=name)
                up.add(labels, answer is not None)
                failures.add(labels, self._failures[name])
            own = (family for collect in self._collectors for family in collect())
            return render_page(chain(own, *(answer or () for answer in answers), (up, failures)))

    async def _ask(self, name: str) -> Iterable[Family] | None:
        try:
            async with asyncio.timeout(SOURCE_MAX_S):
                return await self._sources[name]()
        except (OSError, TimeoutError, SourceAway, PageTooLarge) as error:
            self._failures[name] += 1
            log.debug("no metrics", of=name, error=str(error) or "deadline passed")
            return None


def parse_source(text: str) -> Iterable[Family]:
    """The families of another process's page; SourceAway where it is none."""
    try:
        return parse_page(text)
    except ValueError as error:
        raise SourceAway(str(error)) from error
