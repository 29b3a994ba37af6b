"""The API for whoever writes a model: load, predict, metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ladle.errors import Unsupported
from ladle.protocol.messages import InferRequest, ModelMetadata
from ladle.server.hooks import EXPLAIN, Step


class Model:
    """A model under one name. Subclasses define `load` and `predict`, and what else they need.

    The server calls `load` once before the first request and answers "not ready" until it returns. A request goes through
    `preprocess`, `predict` (or `explain`) and `postprocess`. All of them may be slow or `async`; those that are not `async`
    are called in the event loop once they have shown to take less than a millisecond, else in a thread.

    The client's headers are in `request.headers`, names in lower case; what is put into `request.response_headers` is sent
    back with the answer.
    """

    thread_safe = False
    """Whether `predict` may run in several threads at once."""
    accepts_raw = False
    """Whether a V1 body whose content type is not JSON is for the model as it came; otherwise all bodies must be JSON."""

    directory: Path | None = None
    """Where the model's files are, if the server was told; set before `load`."""

    def __init__(self, name: str = "model") -> None:
        self.name = name

    def load(self) -> None:
        """Reads the model's files. What it raises is reported as the reason why the model is not ready."""

    def preprocess(self, request: InferRequest) -> Any:
        """What `predict` gets in the request's place; the request itself unless a subclass says otherwise."""
        return request

    def predict(self, request: InferRequest) -> Any:
        """The answer: an array, a list, a mapping of output names to arrays, an InferResponse, or any JSON object for V1.

        Raise `ladle.errors.InvalidInput` where the request does not fit; anything else is the model's own failure.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no predict")

    def explain(self, request: InferRequest) -> Any:
        """The explanation of a prediction (`:explain` of V1)."""
        raise Unsupported(f"Model with name {self.name} does not explain, for request {request.id or 'without id'}")

    def postprocess(self, result: Any, request: InferRequest) -> Any:  # noqa: ARG002  # For subclasses.
        """The answer made of what `predict` returned for this request; in one of the same forms."""
        return result

    def steps(self, verb: str) -> Sequence[Step]:
        """The functions that answer a request for `verb`, predict or explain, in order."""
        steps = [Step.of_value(self.explain if verb == EXPLAIN else self.predict)]
        # Those that nobody defined are left out: they would cost every request a call.
        if getattr(self.preprocess, "__func__", None) is not Model.preprocess:
            steps.insert(0, Step.of_value(self.preprocess))
        if getattr(self.postprocess, "__func__", None) is not Model.postprocess:
            steps.append(Step.of_both(self.postprocess))
        return steps

    def healthy(self) -> bool:
        """Whether it can answer now that it is loaded; asked for every request, so it has to be quick."""
        return True

    def metadata(self) -> ModelMetadata:
        """What the model takes and gives; called when it is loaded."""
        return ModelMetadata(name=self.name)

    def config(self) -> Mapping[str, Any]:
        """Further fields of the model's configuration, as Triton's clients ask for it."""
        return {}

    def unload(self) -> None:
        """Lets go of what `load` got."""
