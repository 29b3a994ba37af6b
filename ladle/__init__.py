"""Ladle serves models and keeps serving the best one. The public API, imported when it is used.

from ladle import Model, serve

class Doubler(Model):
    def predict(self, request):
        return request.as_array() * 2

serve(Doubler("doubler"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ladle.errors import InvalidInput as InvalidInput
    from ladle.errors import StatusError as StatusError
    from ladle.protocol.messages import InferRequest as InferRequest
    from ladle.protocol.messages import InferResponse as InferResponse
    from ladle.protocol.tensor import Tensor as Tensor
    from ladle.server.model import Model as Model
    from ladle.server.model_server import serve as serve
    from ladle.transformer.transformer import Transformer as Transformer

_EXPORTS = {
    "InferRequest": "ladle.protocol.messages",
    "InferResponse": "ladle.protocol.messages",
    "InvalidInput": "ladle.errors",
    "Model": "ladle.server.model",
    "StatusError": "ladle.errors",
    "Tensor": "ladle.protocol.tensor",
    "Transformer": "ladle.transformer.transformer",
    "serve": "ladle.server.model_server",
}

__all__ = ["InferRequest", "InferResponse", "InvalidInput", "Model", "StatusError", "Tensor", "Transformer", "serve"]


def __getattr__(name: str) -> object:
    """Imports what an export needs when somebody asks for it: `import ladle` alone must stay instant."""
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module 'ladle' has no attribute {name!r}")
    value: object = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
