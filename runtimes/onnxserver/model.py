"""An ONNX graph behind V1, V2 and gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ladle.errors import BadModel, InvalidInput
from ladle.protocol.datatypes import DATATYPES
from ladle.protocol.messages import InferRequest, ModelMetadata, TensorMetadata
from ladle.protocol.tensor import Array, Tensor, tensor_of
from ladle.server.model import Model
from ladle.server.model_files import find_model_file
from ladle.server.queue_settings import number
from runtimes.onnxserver.providers import CPU, ProviderChoice, decide_providers

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
_GPU_DEVICES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")
"""Where a GPU shows: natively, and in WSL."""


class OnnxModel(Model):
    """The one graph in a directory, or in its newest version folder, as Triton's repositories have it."""

    thread_safe = True

    def __init__(self, name: str, directory: Path, *, threads: int = 1, env: Mapping[str, str] | None = None) -> None:
        super().__init__(name)
        self._directory = directory
        self._threads = threads
        self._env = env or {}
        self._session: Any = None
        self._choice = ProviderChoice((CPU,))
        self._inputs: tuple[TensorMetadata, ...] = ()
        self._outputs: tuple[TensorMetadata, ...] = ()

    def load(self) -> None:
        import onnxruntime

        path = find_model_file(model_directory(self._directory), EXTENSIONS)
        gpu_present = any(Path(device).exists() for device in _GPU_DEVICES)
        self._choice = decide_providers(self._env, onnxruntime.get_available_providers(), gpu_present=gpu_present)
        options = self._session_options(onnxruntime)
        try:
            # By path and not by bytes: external data lies beside the file.
            self._session = onnxruntime.InferenceSession(str(path), options, providers=list(self._choice.providers))
        except Exception as error:  # onnxruntime's own errors share no base but this one.
            raise BadModel(f"{path.name}: {error}") from error
        self._inputs = tuple(_metadata(item) for item in self._session.get_inputs())
        self._outputs = tuple(_metadata(item) for item in self._session.get_outputs())

    def predict(self, request: InferRequest) -> Any:
        feeds = self._v1_feeds(request) if request.is_v1 else self._v2_feeds(request)
        wanted = [output.name for output in request.outputs] or None
        known = {output.name for output in self._outputs}
        if wanted is not None and not known.issuperset(wanted):
            raise InvalidInput(f"outputs {sorted(set(wanted) - known)} are unknown, the model has {sorted(known)}")
        results = self._session.run(wanted, feeds)
        names = wanted or [output.name for output in self._outputs]
        return [_tensor(name, result) for name, result in zip(names, results, strict=True)]

    def metadata(self) -> ModelMetadata:
        properties = {"engine": "onnxruntime", "provider": self._session.get_providers()[0]}
        if self._choice.reason:
            properties["provider_reason"] = self._choice.reason
        return ModelMetadata(
            name=self.name,
            platform="onnxruntime_onnx",
            inputs=self._inputs,
            outputs=self._outputs,
            properties=properties,
        )

    def unload(self) -> None:
        self._session = None

    def _session_options(self, onnxruntime: Any) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(number(self._env, "LADLE_ONNX_INTRA_OP_THREADS", self._threads))
        options.inter_op_num_threads = int(number(self._env, "LADLE_ONNX_INTER_OP_THREADS", 1))
        level = self._env.get("LADLE_ONNX_OPTIMIZATION", "all").upper()
        try:
            options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
        except AttributeError:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3  # Errors: its warnings are about the graph, and repeat at each load.
        return options

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


def model_directory(directory: Path) -> Path:
    """The directory with the file: itself, or the highest of its numbered folders."""
    if not directory.is_dir() or any(path.suffix in EXTENSIONS for path in directory.iterdir()):
        return directory
    versions = [path for path in directory.iterdir() if path.is_dir() and path.name.isdigit()]
    return max(versions, key=lambda path: int(path.name), default=directory)


def _metadata(item: Any) -> TensorMetadata:
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


def _tensor(name: str, result: Any) -> Tensor:
    if isinstance(result, list) and result and isinstance(result[0], dict):
        # scikit-learn's converters give probabilities as one dict a row unless told otherwise.
        return tensor_of(name, np.array([list(row.values()) for row in result]))
    return tensor_of(name, result)
