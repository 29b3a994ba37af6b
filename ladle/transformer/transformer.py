"""The API for whoever writes a transformer: preprocess, postprocess, and a predictor in between."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ladle.clock import Clock, SystemClock
from ladle.errors import Unsupported
from ladle.protocol.messages import InferRequest
from ladle.server.hooks import EXPLAIN, Step
from ladle.server.model import Model
from ladle.server.options import ServerOptions
from ladle.transformer.attempts import Attempts
from ladle.transformer.deadlines import decide_deadline
from ladle.transformer.messages import Prediction, Predictor, Question, v1_payload, v2_tensors
from ladle.transformer.passing import passed_headers
from ladle.transformer.settings import PredictorSettings, Protocol


@dataclass(slots=True)
class _Prepared:
    """What `preprocess` returned, and when the answer has to be there."""

    value: Any
    deadline_s: float


class Transformer(Model):
    """A model that asks another one. Subclasses define `preprocess`, `postprocess` or both, `async` or not.

    `preprocess(request)` returns what the predictor gets: the request itself, an array, tensors, a mapping of names to
    arrays, or a V1 body. `postprocess(prediction, request)` gets a Prediction and returns what the client gets, in any form
    that a model may answer in, or the prediction itself. All rows of a request go to the predictor in one.

    The client's headers are in `request.headers`, the predictor's in `prediction.headers`, and those for the client go into
    `request.response_headers`. The predictor's refusals reach the client with their status and body.
    """

    thread_safe = True

    def __init__(self, name: str = "", predictor: PredictorSettings | None = None) -> None:
        """Without arguments, the command line and the environment say what they are (`--model_name`, `--predictor_host`)."""
        super().__init__(name or ServerOptions.parse(sys.argv[1:], os.environ).model_name)
        self.settings = predictor or PredictorSettings.parse(sys.argv[1:], os.environ)
        self._predictor: Predictor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clock: Clock = SystemClock()

    async def ask(self, value: Any, request: InferRequest) -> Prediction:
        """What the predictor says of `value`, which is anything that `preprocess` may return.

        For code that asks on its own, as the `explain` of an explainer does; with the headers and the deadline of the
        client's request. StatusError where the predictor refuses or does not answer.
        """
        return await self._ask(await self._arrive(value, request), request)

    def use(self, predictor: Predictor) -> None:
        """From now on asks this one: a test's stand-in, or a way to a predictor that is not known here."""
        self._predictor = predictor

    def postprocess(self, result: Prediction, request: InferRequest) -> Any:  # noqa: ARG002  # For subclasses.
        """What the client gets, made of the predictor's answer."""
        return result

    def steps(self, verb: str) -> Sequence[Step]:
        """The functions that answer a request: those of a model, with the predictor as predict."""
        if verb == EXPLAIN:
            return super().steps(verb)
        steps = [Step(self._arrive, is_async=True), _kept_beside(Step.of_value(self.preprocess))]
        steps.append(Step(self._ask, is_async=True))
        # Left out where nobody defined it: it would cost every request a call.
        if getattr(self.postprocess, "__func__", None) is not Transformer.postprocess:
            steps.append(Step.of_both(self.postprocess))
        return [*steps, Step(_unwrapped, is_async=True)]

    def unload(self) -> None:
        """Closes connections to the predictor; the next request opens new ones."""
        predictor, loop, self._predictor, self._loop = self._predictor, self._loop, None, None
        if predictor is not None and loop is not None and not loop.is_closed():
            asyncio.run_coroutine_threadsafe(predictor.close(), loop)

    # The steps that take no time are coroutine functions: others might be given a thread.

    async def _arrive(self, value: InferRequest, request: InferRequest) -> _Prepared:
        now_s = self._clock.monotonic_s()
        return _Prepared(value, decide_deadline(request, now_s=now_s, timeout_s=self.settings.timeout_s))

    async def _ask(self, prepared: _Prepared, request: InferRequest) -> Prediction:
        question = Question(
            model_name=self.name, id=request.id, headers=passed_headers(request.headers), deadline_s=prepared.deadline_s
        )
        if self.settings.protocol is Protocol.V1:
            question.payload = v1_payload(prepared.value)
        else:
            question.tensors, question.parameters = v2_tensors(prepared.value)
        return await self._connected().ask(question)

    def _connected(self) -> Predictor:
        """The predictor, with connections of the loop that runs now."""
        if self._predictor is None:
            self._predictor, self._loop = connect(self.settings, self._clock), asyncio.get_running_loop()
        return self._predictor


def connect(settings: PredictorSettings, clock: Clock) -> Predictor:
    """A predictor over the network; Unsupported where none is named."""
    if not settings.host:
        raise Unsupported("the transformer was not told where its predictor is: --predictor_host is missing")
    attempts = Attempts(retries=settings.retries, clock=clock, rng=random.Random(), where=settings.host)  # noqa: S311  # Jitter.
    if settings.protocol is Protocol.GRPC:
        from ladle.transformer.grpc import GrpcPredictor  # A tenth of a second that only users of gRPC pay.

        return GrpcPredictor(settings, clock=clock, attempts=attempts)
    from ladle.transformer.rest import RestPredictor

    return RestPredictor(settings, clock=clock, attempts=attempts)


def _kept_beside(step: Step) -> Step:
    """The step on what is prepared, with the deadline kept beside it."""

    async def later(prepared: _Prepared, request: InferRequest) -> _Prepared:
        return _Prepared(await step.function(prepared.value, request), prepared.deadline_s)

    def now(prepared: _Prepared, request: InferRequest) -> _Prepared:
        return _Prepared(step.function(prepared.value, request), prepared.deadline_s)

    return Step(later if step.is_async else now, is_async=step.is_async)


async def _unwrapped(result: Any, _: InferRequest) -> Any:
    return result.value if isinstance(result, Prediction) else result
