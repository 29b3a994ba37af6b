"""Batching for one model: requests of V1, V2 and gRPC put together, each answer taken apart again.

What is put together must mean the same: for V1 plain rows, for tensors equal names, datatypes, shapes beyond the first
dimension and parameters, and always the same credentials. Anything else goes to the model alone. When a batch fails, its
requests are asked one by one, so that each gets the error that is its own; an answer with another number of rows than
were asked is an error for all, since nobody can tell whose rows they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ladle.clock import Clock
from ladle.errors import InferenceError
from ladle.protocol.messages import InferRequest, InferResponse
from ladle.protocol.results import v1_body, v2_response
from ladle.protocol.tensor import Tensor
from ladle.server.batch_queue import BatchQueue, BatchSettings
from ladle.server.eventually import Eventually, is_later
from ladle.server.execution import Call, Runner

_CREDENTIALS = "authorization"


class BatchWatch(Protocol):
    """Whoever counts batches."""

    def waited(self, seconds: float) -> None: ...

    def sent(self, rows: int) -> None: ...


class Batcher:
    """Stands in for a runner's `run` where a model's requests are batched."""

    def __init__(
        self, runner: Runner, *, settings: BatchSettings, tasks: asyncio.TaskGroup, clock: Clock, watch: BatchWatch
    ) -> None:
        self._runner = runner
        self._watch = watch
        self._call: Call | None = None
        self._queue: BatchQueue[InferRequest, Any] = BatchQueue(
            self._answer, settings=settings, tasks=tasks, clock=clock
        )

    def run(self, call: Call, request: InferRequest) -> Eventually[Any]:
        """What the model answered to this request; alone, where it cannot be batched."""
        self._call = call
        key, rows = batch_key(request)
        if key is None:
            return self._runner.run(call, request)
        return self._submit(key, request, rows)

    async def _submit(self, key: Hashable, request: InferRequest, rows: int) -> Any:
        outcome = await self._queue.submit(key, request, rows)
        self._watch.waited(outcome.waited_s)
        if request.is_v1:
            return {"message": "", "batchId": outcome.batch_id, "predictions": outcome.part}
        return outcome.part

    async def _answer(self, requests: Sequence[InferRequest]) -> Sequence[Any | Exception]:
        self._watch.sent(sum(batch_key(request)[1] for request in requests))
        try:
            merged = merge_requests(requests)
            parts = split_result(await self._ask(merged), requests)
        except Exception as error:  # noqa: BLE001  # Whatever a model raises is somebody's answer; whose, one by one shows.
            if len(requests) == 1 or isinstance(error, WrongRowCount):
                return [error] * len(requests)
        else:
            for request in requests:  # What a model says about a batch, it says about each.
                request.response_headers.update(merged.response_headers)
            return parts
        return [await self._alone(request) for request in requests]

    async def _alone(self, request: InferRequest) -> Any | Exception:
        try:
            return split_result(await self._ask(request), [request])[0]
        except Exception as error:  # noqa: BLE001  # As above.
            return error

    async def _ask(self, request: InferRequest) -> Any:
        assert self._call is not None, "set before anything is queued"
        result = self._runner.run(self._call, request)
        return await result if is_later(result) else result


class WrongRowCount(InferenceError):
    """The model answered another number of rows than it was asked."""

    def __init__(self, expected: int, found: object) -> None:
        super().__init__(f"the model answered {found} rows for a batch of {expected}")


def batch_key(request: InferRequest) -> tuple[Hashable | None, int]:
    """What has to be equal for requests to share a batch, and the rows of this one; None where it goes alone."""
    credentials = request.headers.get(_CREDENTIALS, "")
    if request.is_v1:
        payload = request.payload
        if not isinstance(payload, Mapping) or set(payload) != {"instances"} or not payload["instances"]:
            return None, 1
        return ("v1", credentials), len(payload["instances"])
    if not request.inputs or any(not tensor.shape for tensor in request.inputs):
        return None, 1
    rows = request.inputs[0].shape[0]
    if not rows or any(tensor.shape[0] != rows for tensor in request.inputs):
        return None, 1
    shapes = tuple((tensor.name, tensor.datatype.name, tensor.shape[1:]) for tensor in request.inputs)
    parameters = tuple(sorted((key, repr(value)) for key, value in request.parameters.items()))
    return ("v2", shapes, parameters, credentials), rows


def merge_requests(requests: Sequence[InferRequest]) -> InferRequest:
    """One request with the rows of all, in order; the first one's headers and parameters, which are all's."""
    first = requests[0]
    if len(requests) == 1:
        return first
    merged = InferRequest(
        model_name=first.model_name,
        id=first.id,
        parameters=first.parameters,
        headers=first.headers,
        size_bytes=sum(request.size_bytes for request in requests),
        over_grpc=first.over_grpc,
        raw_contents=first.raw_contents,
    )
    if first.is_v1:
        merged.payload = {"instances": [row for request in requests for row in request.instances]}
        return merged
    merged.inputs = tuple(
        Tensor(tensor.name, tensor.datatype, np.concatenate([request.inputs[index].array for request in requests]))
        for index, tensor in enumerate(first.inputs)
    )
    return merged


def split_result(result: Any, requests: Sequence[InferRequest]) -> list[Any]:
    """Each request's own rows; WrongRowCount where the rows do not add up."""
    counts = [batch_key(request)[1] for request in requests]
    if requests[0].is_v1:
        return _split_rows(_predictions(result, sum(counts)), counts)
    response = v2_response(result, InferRequest(model_name=requests[0].model_name, id=requests[0].id))
    columns = [_split_tensor(tensor, counts) for tensor in response.outputs]
    return [
        InferResponse(
            model_name=response.model_name,
            id=request.id,
            outputs=tuple(column[index] for column in columns),
            parameters=response.parameters,
        )
        for index, request in enumerate(requests)
    ]


def _predictions(result: Any, expected: int) -> list[Any]:
    body = v1_body(result)
    found = body.get("predictions") if isinstance(body, Mapping) else None
    rows = found.tolist() if isinstance(found, np.ndarray) else found
    if not isinstance(rows, list | tuple) or len(rows) != expected:
        raise WrongRowCount(expected, len(rows) if isinstance(rows, list | tuple) else "no")
    return list(rows)


def _split_rows(rows: list[Any], counts: Sequence[int]) -> list[Any]:
    ends = np.cumsum(counts)
    return [rows[end - count : end] for count, end in zip(counts, ends, strict=True)]


def _split_tensor(tensor: Tensor, counts: Sequence[int]) -> list[Tensor]:
    expected = sum(counts)
    if not tensor.shape or tensor.shape[0] != expected:
        raise WrongRowCount(expected, tensor.shape[0] if tensor.shape else "no")
    parts = np.split(tensor.array, np.cumsum(counts)[:-1])
    return [Tensor(tensor.name, tensor.datatype, part, tensor.parameters) for part in parts]
