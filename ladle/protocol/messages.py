"""Requests and responses of inference, the same for V1, V2 over REST and gRPC.

A model sees an InferRequest whichever protocol it came by, and asks it for an array, a table or its tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ladle.errors import InvalidInput
from ladle.protocol.tables import table_of_columns, table_of_rows
from ladle.protocol.tensor import NO_PARAMETERS, Array, Parameters, Tensor

NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """One output that the client wants, and how."""

    name: str
    parameters: Parameters = field(default_factory=lambda: NO_PARAMETERS)


@dataclass(slots=True, kw_only=True)
class InferRequest:
    """One inference. V2 fills `inputs`; V1 fills `payload`."""

    model_name: str
    id: str = ""
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[RequestedOutput, ...] = ()
    parameters: Parameters = field(default_factory=lambda: NO_PARAMETERS)
    payload: object = None
    """V1: the parsed JSON body, or the body itself where the model takes raw ones."""
    headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)
    """Of the HTTP request or the gRPC call; names in lower case."""
    size_bytes: int = 0
    """Of the body as it came."""
    over_grpc: bool = False
    """Whether it came as a gRPC call."""
    raw_contents: bool = False
    """Of gRPC: whether the tensors came as raw bytes."""
    time_left_s: float | None = None
    """How long the client waits for the answer, as it said when the request came; None where it did not."""
    response_headers: dict[str, str] = field(default_factory=dict)
    """What a model puts here is sent back with the answer, as headers of HTTP or as metadata of gRPC."""

    @property
    def instances(self) -> list[Any]:
        """The rows of a V1 request; InvalidInput where it has none."""
        if not isinstance(self.payload, Mapping):
            raise InvalidInput('Expected a JSON object with "instances" or "inputs"')
        for key in ("inputs", "instances"):
            if key in self.payload:
                rows = self.payload[key]
                if not isinstance(rows, list):
                    raise InvalidInput(f'Expected "{key}" to be a list')
                return rows
        raise InvalidInput('Expected "instances" or "inputs" in the request body')

    @property
    def is_v1(self) -> bool:
        return self.payload is not None

    @property
    def wants_table(self) -> bool:
        """Whether the rows have columns by name: dicts in V1, `content_type: pd` in V2."""
        if not self.is_v1:
            return self.parameters.get("content_type") == "pd"
        rows = self.instances
        first = rows[0] if rows else None
        return isinstance(first, dict) or (isinstance(first, list) and bool(first) and isinstance(first[0], dict))

    def input(self, name: str) -> Tensor:
        """The input of that name; InvalidInput that lists the names that came."""
        for tensor in self.inputs:
            if tensor.name == name:
                return tensor
        raise InvalidInput(f"input '{name}' is missing, got {[tensor.name for tensor in self.inputs]}")

    def as_array(self) -> Array:
        """The rows as one array: V1's instances, or V2's first input; texts as `str`."""
        if self.is_v1:
            try:
                return np.asarray(self.instances)
            except ValueError:
                raise InvalidInput('"instances" is ragged: every row must have the same shape') from None
        if not self.inputs:
            raise InvalidInput("inputs is empty, expected at least one tensor")
        tensor = self.inputs[0]
        return tensor.strings() if tensor.datatype.name == "BYTES" else tensor.array

    def as_dataframe(self) -> Any:
        """The rows as a pandas DataFrame: V1's dicts, or one column for each input of V2. Needs pandas."""
        return table_of_rows(self.instances) if self.is_v1 else table_of_columns(self.inputs)


@dataclass(slots=True, kw_only=True)
class InferResponse:
    """What a model answered, as tensors."""

    model_name: str
    id: str
    outputs: tuple[Tensor, ...]
    model_version: str = ""
    parameters: Parameters = field(default_factory=lambda: NO_PARAMETERS)

    def output(self, name: str) -> Tensor:
        """The output of that name; KeyError."""
        for tensor in self.outputs:
            if tensor.name == name:
                return tensor
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """An input or output as a model declares it; -1 is a dimension of any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMetadata:
    """What a model says about itself."""

    name: str
    versions: tuple[str, ...] = ()
    platform: str = ""
    inputs: tuple[TensorMetadata, ...] = ()
    outputs: tuple[TensorMetadata, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    """What else is worth knowing: the engine, why it was chosen."""
