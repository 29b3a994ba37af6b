"""An ONNX graph behind V1, V2 and gRPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ladle.errors import BadModel, InvalidInput
from ladle.log import get_logger
from ladle.protocol.datatypes import DATATYPES
from ladle.protocol.messages import InferRequest, ModelMetadata, TensorMetadata
from ladle.protocol.tensor import Array, Tensor, tensor_of
from ladle.server.model import Model
from ladle.server.model_files import find_model_file
from ladle.server.model_folders import has_file
from ladle.server.queue_settings import flag
from runtimes.gpu import gpu_present
from runtimes.onnx_runtime import import_onnxruntime
from runtimes.onnxserver.binding import Binding, can_bind, needs_binding
from runtimes.onnxserver.providers import CPU, ProviderChoice, decide_providers
from runtimes.onnxserver.sessions import misfit_message, open_session, session_options
from runtimes.version_folders import newest_of, newest_version

EXTENSIONS = (".onnx",)
_DATATYPES = {
    "tensor(bool)": "BOOL",
    **{f"tensor(int{bits})": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"tensor(uint{bits})": f"UINT{bits}" for bits in (8, 16, 32, 64)},
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
"""The protocol's names of what onnxruntime calls types."""
_ROWS_OF_MAPS = {
    f"seq(map({key},tensor({number})))": datatype
    for key in ("int64", "string")
    for number, datatype in (("float", "FP32"), ("double", "FP64"))
}
"""How scikit-learn's converters give probabilities unless told otherwise: for each row, by class. Served as a table."""
_BINDING_VARIABLE = "LADLE_ONNX_IO_BINDING"
log = get_logger(__name__)


class OnnxModel(Model):
    """The one graph in a directory, or in its newest version folder, as Triton's repositories have it."""

    thread_safe = True

    def __init__(
        self,
        name: str,
        directory: Path,
        *,
        threads: int = 1,
        env: Mapping[str, str] | None = None,
        available: Sequence[str] | None = None,
    ) -> None:
        """`available`: the providers to choose from; None for those of the installed onnxruntime."""
        super().__init__(name)
        self._directory = directory
        self._threads = threads
        self._env = env or {}
        self._available = available
        self._session: Any = None
        self._binding: Binding | None = None
        """Where inputs and outputs are bound to a device."""
        self._choice = ProviderChoice((CPU,))
        self._inputs: tuple[TensorMetadata, ...] = ()
        self._outputs: tuple[TensorMetadata, ...] = ()

    def load(self) -> None:
        onnxruntime = import_onnxruntime()
        path = find_model_file(newest_version(self._directory, EXTENSIONS), EXTENSIONS)
        available = onnxruntime.get_available_providers() if self._available is None else self._available
        wish = decide_providers(self._env, available, gpu_present=gpu_present())
        options = session_options(onnxruntime, self._env, threads=self._threads)
        self._session, self._choice = open_session(onnxruntime, path, options, wish)
        if self._choice.reason:
            log.warning("provider fell back", model=self.name, provider=self._provider, reason=self._choice.reason)
        self._inputs = tuple(_metadata(item) for item in self._session.get_inputs())
        self._outputs = tuple(_metadata(item) for item in self._session.get_outputs())
        self._binding = self._bind(onnxruntime)

    def predict(self, request: InferRequest) -> Any:
        feeds = self._v1_feeds(request) if request.is_v1 else self._v2_feeds(request)
        known = [output.name for output in self._outputs]
        wanted = [output.name for output in request.outputs] or known
        if not set(known).issuperset(wanted):
            raise InvalidInput(f"outputs {sorted(set(wanted) - set(known))} are unknown, the model has {sorted(known)}")
        try:
            results = self._run(wanted, feeds)
        except Exception as error:  # onnxruntime's own errors share no base but this one.
            message = misfit_message(error)
            if message is None:
                raise
            raise InvalidInput(message) from error
        return [self._tensor(name, result) for name, result in zip(wanted, results, strict=True)]

    def metadata(self) -> ModelMetadata:
        properties = {
            "engine": "onnxruntime",
            "provider": self._provider,
            "device": self._choice.device,
            "io_binding": str(self._binding is not None).lower(),
        }
        if self._choice.reason:
            properties["device_reason"] = self._choice.reason
        return ModelMetadata(
            name=self.name,
            platform="onnxruntime_onnx",
            inputs=self._inputs,
            outputs=self._outputs,
            properties=properties,
        )

    def unload(self) -> None:
        self._session = self._binding = None

    def _bind(self, onnxruntime: Any) -> Binding | None:
        """On a GPU everything is bound, elsewhere what could not be passed otherwise; and what is asked for, if it can be."""
        kinds = [item.type for item in (*self._session.get_inputs(), *self._session.get_outputs())]
        device = self._choice.device
        if not can_bind(kinds) or not flag(self._env, _BINDING_VARIABLE, default=needs_binding(kinds, device=device)):
            return None
        return Binding(onnxruntime, self._session, self._outputs, device=device)

    def _run(self, wanted: Sequence[str], feeds: Mapping[str, Array]) -> Sequence[Any]:
        if self._binding is None:
            plain: Sequence[Any] = self._session.run(wanted, dict(feeds))
            return plain
        datatypes = {item.name: item.datatype for item in self._inputs}
        return self._binding.run(wanted, {name: (datatypes[name], array) for name, array in feeds.items()})

    @property
    def _provider(self) -> str:
        """What runs the graph, in onnxruntime's words."""
        return str(self._session.get_providers()[0])

    def _v1_feeds(self, request: InferRequest) -> dict[str, Array]:
        """Rows for the only input, or rows of objects with one value for each input."""
        rows = request.instances
        if rows and all(isinstance(row, dict) for row in rows):
            return {item.name: self._cast(item, [_value(row, item.name) for row in rows]) for item in self._inputs}
        if len(self._inputs) != 1:
            names = [item.name for item in self._inputs]
            raise InvalidInput(f"the model has {len(names)} inputs: every instance must be an object with {names}")
        return {self._inputs[0].name: self._cast(self._inputs[0], rows)}

    def _cast(self, item: TensorMetadata, rows: list[Any]) -> Array:
        datatype = DATATYPES[item.datatype]
        try:
            array = np.asarray(rows)
            if array.dtype.kind in "US" and item.datatype != "BYTES":
                raise ValueError(f"expected numbers, got {array.dtype}")
            array = array.astype(datatype.dtype)
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"input '{item.name}': {error}") from error
        _check_shape(item, array)
        return array

    def _v2_feeds(self, request: InferRequest) -> dict[str, Array]:
        expected = {item.name: item for item in self._inputs}
        given = {tensor.name: tensor for tensor in request.inputs}
        if set(given) != set(expected):
            raise InvalidInput(f"inputs are {sorted(given)}, expected {sorted(expected)}")
        return {name: _feed(expected[name], tensor) for name, tensor in given.items()}

    def _tensor(self, name: str, result: Any) -> Tensor:
        if isinstance(result, list) and result and isinstance(result[0], dict):
            return tensor_of(name, np.array([list(row.values()) for row in result]))
        is_bf16 = any(output.name == name and output.datatype == "BF16" for output in self._outputs)
        return tensor_of(name, result, "BF16" if is_bf16 else None)


def holds_model(folder: Path) -> bool:
    """Whether a graph lies in the folder itself or in the newest of its version folders."""
    return has_file(folder, EXTENSIONS) or has_file(newest_of(folder), EXTENSIONS)


def _metadata(item: Any) -> TensorMetadata:
    if item.type in _ROWS_OF_MAPS:
        return TensorMetadata(item.name, _ROWS_OF_MAPS[item.type], (-1, -1))
    datatype = _DATATYPES.get(item.type)
    if datatype is None:
        raise BadModel(f"{item.name} is a {item.type}, which the inference protocol has no tensors for")
    # A dimension without a number is named or unknown: any length.
    return TensorMetadata(
        item.name, datatype, tuple(length if isinstance(length, int) else -1 for length in item.shape)
    )


def _feed(item: TensorMetadata, tensor: Tensor) -> Array:
    if tensor.datatype.name != item.datatype:
        raise InvalidInput(f"input '{item.name}': datatype {tensor.datatype.name}, expected {item.datatype}")
    _check_shape(item, tensor.array)
    return tensor.strings() if item.datatype == "BYTES" else tensor.array


def _check_shape(item: TensorMetadata, array: Array) -> None:
    fits = len(array.shape) == len(item.shape) and all(
        expected in (-1, found) for expected, found in zip(item.shape, array.shape, strict=True)
    )
    if not fits:
        raise InvalidInput(f"input '{item.name}': shape {list(array.shape)}, expected {list(item.shape)}")


def _value(row: Mapping[str, Any], name: str) -> Any:
    if name not in row:
        raise InvalidInput(f"an instance has no '{name}', got {sorted(row)}")
    return row[name]
