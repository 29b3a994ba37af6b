"""How often a predictor is asked, and what is said where it does not answer.

A prediction is repeated only where that cannot make it happen twice: the connection was refused, so nothing was sent, or the
predictor said 503, that it did not take it. Retries have a budget beside the number for each request, so that many clients
do not multiply the load on a predictor that is down: each answered request earns a tenth of a retry.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from ladle.clock import Clock
from ladle.errors import StatusError
from ladle.transformer.messages import Prediction

BUDGET_MAX = 20.0
"""Retries in a row, over all requests, that nothing has earned. A guess."""
EARNED = 0.1
"""Of a retry for each answer: a predictor that is half down gets at most a tenth more. As in Finagle's retry budget."""
BACKOFF_S = 0.025
"""Before the first retry, twice that before the second; as Envoy's default."""
BACKOFF_S_MAX = 1.0
UNAVAILABLE = 503


class NotReached(Exception):
    """Nothing was sent: the predictor's address takes no connections."""


class Attempts:
    """The retries of one predictor."""

    def __init__(self, *, retries: int, clock: Clock, rng: random.Random, where: str) -> None:
        """`where` names the predictor in messages."""
        self._retries = retries
        self._clock = clock
        self._rng = rng
        self._where = where
        self._budget = BUDGET_MAX

    async def run(self, ask: Callable[[], Awaitable[Prediction]], deadline_s: float) -> Prediction:
        """What `ask` returns, at the latest at `deadline_s`; StatusError otherwise."""
        left_s = deadline_s - self._clock.monotonic_s()
        try:
            async with asyncio.timeout(left_s):
                return await self._try(ask)
        except TimeoutError:
            raise failure(504, f"predictor {self._where} did not answer within {max(0.0, left_s):.3g} s") from None

    async def _try(self, ask: Callable[[], Awaitable[Prediction]]) -> Prediction:
        for attempt in range(self._retries + 1):
            try:
                answer = await ask()
            except NotReached as error:
                if not self._may_retry(attempt):
                    raise failure(UNAVAILABLE, f"predictor {self._where} cannot be reached: {error}") from None
            except StatusError as error:
                if error.status != UNAVAILABLE or not self._may_retry(attempt):
                    raise
            else:
                self._budget = min(BUDGET_MAX, self._budget + EARNED)
                return answer
            await asyncio.sleep(self._backoff_s(attempt))
        raise AssertionError("the last attempt returns or raises")

    def _may_retry(self, attempt: int) -> bool:
        if attempt == self._retries or self._budget < 1:
            return False
        self._budget -= 1
        return True

    def _backoff_s(self, attempt: int) -> float:
        longest_s: float = min(BACKOFF_S_MAX, BACKOFF_S * 2**attempt)
        return longest_s * self._rng.uniform(
            0.5, 1.0
        )  # Clients that were refused together shall not come back together.


def failure(status: int, text: str) -> StatusError:
    """An error of this hop, in the form of KServe's errors."""
    return StatusError(status, {"error": text})
