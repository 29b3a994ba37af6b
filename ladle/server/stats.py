"""How many requests were inside, averaged over time: what the autoscaler scales on.

The queue-proxy and the activator count with the same accumulator, so that a request means the same wherever it waits.
Pure: the caller passes the time, and calls from one thread.
"""

from __future__ import annotations

from dataclasses import dataclass

REPORT_PERIOD_S = 1.0
"""Seconds between two reports; a constant of Knative's queue-proxy and activator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One period: averages over its time, counts of arrivals in it."""

    average_concurrency: float = 0.0
    average_proxied_concurrency: float = 0.0
    """The part of `average_concurrency` that an activator forwarded (and therefore counted as well)."""
    request_count: int = 0
    proxied_request_count: int = 0


class ConcurrencyStats:
    """A running integral of concurrency. A request counts from its arrival, queueing included, to its departure."""

    __slots__ = (
        "_elapsed_s",
        "_integral_s",
        "_last_s",
        "_proxied_count",
        "_proxied_integral_s",
        "_request_count",
        "concurrency",
        "proxied",
    )

    def __init__(self, now_s: float) -> None:
        self.concurrency = 0
        """Requests inside at this moment."""
        self.proxied = 0
        """Those of them that came through an activator."""
        self._last_s = now_s
        self._clear()

    def arrive(self, now_s: float, proxied: bool, unread_s: float = 0.0) -> None:
        """`unread_s` is how long it has been there already, unseen: a fraction of a millisecond, all of it
        counted in this period."""
        self._advance(now_s)
        if unread_s:
            self._integral_s += unread_s
            if proxied:
                self._proxied_integral_s += unread_s
        self.concurrency += 1
        self._request_count += 1
        if proxied:
            self.proxied += 1
            self._proxied_count += 1

    def depart(self, now_s: float, proxied: bool) -> None:
        self._advance(now_s)
        assert self.concurrency > 0, "a request departs once, after it arrived"
        self.concurrency -= 1
        if proxied:
            self.proxied -= 1

    def report(self, now_s: float) -> Report:
        """The period that ends now; a new one begins with what is still inside."""
        self._advance(now_s)
        elapsed_s = self._elapsed_s
        report = Report(
            average_concurrency=self._integral_s / elapsed_s if elapsed_s > 0 else 0.0,
            average_proxied_concurrency=self._proxied_integral_s / elapsed_s if elapsed_s > 0 else 0.0,
            request_count=self._request_count,
            proxied_request_count=self._proxied_count,
        )
        self._clear()
        return report

    def _advance(self, now_s: float) -> None:
        passed_s = now_s - self._last_s
        if passed_s <= 0:  # A clock that stood still, or callers that raced for it: nothing passed.
            return
        self._integral_s += self.concurrency * passed_s
        self._proxied_integral_s += self.proxied * passed_s
        self._elapsed_s += passed_s
        self._last_s = now_s

    def _clear(self) -> None:
        self._integral_s = 0.0
        self._proxied_integral_s = 0.0
        self._elapsed_s = 0.0
        self._request_count = 0
        self._proxied_count = 0
