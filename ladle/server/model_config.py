"""A model's metadata as Triton's configuration, which its clients ask for."""

from __future__ import annotations

from typing import Any

from ladle.protocol.messages import TensorMetadata
from ladle.server.repository import ServedModel


def model_config(served: ServedModel) -> dict[str, Any]:
    """Triton's ModelConfig in JSON, with what the model itself adds."""
    metadata = served.metadata
    return {
        "name": served.model.name,
        "platform": metadata.platform,
        "backend": metadata.platform,
        "max_batch_size": 0,  # The first dimension is part of the declared shapes.
        "input": [_tensor(tensor) for tensor in metadata.inputs],
        "output": [_tensor(tensor) for tensor in metadata.outputs],
        **served.model.config(),
    }


def data_type(datatype: str) -> str:
    """Triton's name of a datatype in configurations."""
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"


def _tensor(tensor: TensorMetadata) -> dict[str, Any]:
    return {"name": tensor.name, "data_type": data_type(tensor.datatype), "dims": list(tensor.shape)}
