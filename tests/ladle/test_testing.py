"""The test kit for transformers, used as their authors would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle import InferRequest, StatusError, Transformer
from ladle.errors import UserError
from ladle.testing import FakePredictor, RecordedPredictor, Recorder, ask, ask_async
from ladle.transformer.messages import Prediction, Question
from ladle.transformer.settings import PredictorSettings, Protocol

NAMES = ["zero", "one", "two"]
V1 = PredictorSettings()
V2 = PredictorSettings(protocol=Protocol.V2)


class Named(Transformer):
    """Lengths of texts go out, names of numbers come back."""

    def preprocess(self, request: InferRequest) -> Any:
        return np.array([len(text) for text in request.as_array()])

    def postprocess(self, result: Prediction, request: InferRequest) -> Any:
        request.response_headers["x-who"] = request.headers.get("x-who", "nobody")
        return [NAMES[int(index)] for index in result.as_array()]


def double(question: Question) -> Any:
    return question.as_array() * 2


class TestFake:
    @pytest.mark.parametrize("settings", [V1, V2], ids=["v1", "v2"])
    def test_three_lines(self, settings: PredictorSettings) -> None:
        predictor = FakePredictor({"predictions": [2, 1]})
        answer = ask(Named("m", settings), {"instances": ["a", "bc"]}, predictor=predictor, headers={"X-Who": "me"})
        assert (answer.status, answer.body) == (200, {"predictions": ["two", "one"]})
        assert predictor.questions[0].as_array().tolist() == [1, 2]
        assert answer.headers["x-who"] == "me"

    def test_v2_requests_get_v2_answers(self) -> None:
        body = {"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
        answer = ask(Named("m", V2), body, predictor=FakePredictor(double))
        assert answer.body["outputs"] == [{"name": "output-0", "shape": [1], "datatype": "BYTES", "data": ["two"]}]

    def test_a_refusal_is_what_the_client_gets(self) -> None:
        answer = ask(Named("m", V1), {"instances": ["a"]}, predictor=FakePredictor(StatusError(404, {"error": "gone"})))
        assert (answer.status, answer.body) == (404, {"error": "gone"})

    async def test_within_a_loop(self) -> None:
        answer = await ask_async(Named("m", V1), {"instances": ["a"]}, predictor=FakePredictor(double))
        assert answer.body == {"predictions": ["two"]}


class TestRecordings:
    @pytest.mark.parametrize("settings", [V1, V2], ids=["v1", "v2"])
    def test_what_was_recorded_is_said_again(self, tmp_path: Path, settings: PredictorSettings) -> None:
        path = tmp_path / "said.json"
        request = {"instances": ["a"]}
        first = ask(Named("m", settings), request, predictor=Recorder(FakePredictor(double), path))
        again = ask(Named("m", settings), request, predictor=RecordedPredictor(path))
        assert again == first

    async def test_what_was_not_recorded_is_shown(self, tmp_path: Path) -> None:
        path = tmp_path / "said.json"
        path.write_text("[]")
        with pytest.raises(UserError, match=r"said.json has no answer to \{\"instances\":\[3\]\}; record it anew"):
            await RecordedPredictor(path).ask(Question(model_name="m", payload={"instances": [3]}, deadline_s=0))
