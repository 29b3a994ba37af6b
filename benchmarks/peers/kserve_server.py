"""kserve's own ModelServer around the same models, used as its sklearnserver uses it.

Without its log lines for each request, which take 5-16 % of its time.
"""

from __future__ import annotations

import logging
from typing import Any

import arguments
from kserve import Model, ModelServer
from kserve.utils.utils import get_predict_input, get_predict_response


class Iris(Model):
    def __init__(self) -> None:
        super().__init__("iris")
        self._estimator = arguments.iris(arguments.parse().models)
        self.ready = True

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:  # noqa: ARG002
        return get_predict_response(payload, self._estimator.predict(get_predict_input(payload)), self.name)


class Image(Model):
    def __init__(self) -> None:
        super().__init__("image")
        self.ready = True

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:  # noqa: ARG002
        return get_predict_response(payload, get_predict_input(payload).mean(axis=(2, 3)), self.name)


logging.disable(logging.INFO)
ModelServer().start([Iris(), Image()])
