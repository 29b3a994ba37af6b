"""The API for whoever writes a model: load, predict, metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ladle.errors import Unsupported
from ladle.protocol.messages import InferRequest, ModelMetadata


class Model:
    """A model under one name. Subclasses define `load` and `predict`; either may be slow, `predict` may be `async`.

    The server calls `load` once before the first request and answers "not ready" until it returns. `predict` is called
    in the event loop once it has shown to take less than a millisecond, else in a thread.
    """

    thread_safe = False
    """Whether `predict` may run in several threads at once."""
    accepts_raw = False
    """Whether a V1 body whose content type is not JSON is for the model as it came; otherwise all bodies must be JSON."""

    def __init__(self, name: str = "model") -> None:
        self.name = name

    def load(self) -> None:
        """Reads the model's files. What it raises is reported as the reason why the model is not ready."""

    def predict(self, request: InferRequest) -> Any:
        """The answer: an array, a list, a mapping of output names to arrays, an InferResponse, or any JSON object for V1.

        Raise `ladle.errors.InvalidInput` where the request does not fit; anything else is the model's own failure.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no predict")

    def explain(self, request: InferRequest) -> Any:
        """The explanation of a prediction (`:explain` of V1)."""
        raise Unsupported(f"Model with name {self.name} does not explain, for request {request.id or 'without id'}")

    def metadata(self) -> ModelMetadata:
        """What the model takes and gives; called when it is loaded."""
        return ModelMetadata(name=self.name)

    def config(self) -> Mapping[str, Any]:
        """Further fields of the model's configuration, as Triton's clients ask for it."""
        return {}

    def unload(self) -> None:
        """Lets go of what `load` got."""
