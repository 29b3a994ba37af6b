"""The image transformer: what the predictor gets of a picture, what the client gets of scores, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle.errors import UserError
from ladle.testing import Answered, FakePredictor, ask
from ladle.transformer.settings import PredictorSettings, Protocol
from tests.transformer.pictures import as_text, bomb, encoded
from transformer.image.model import ImageTransformer
from transformer.image.settings import ImageSettings, Layout

RNG = np.random.default_rng(7)
COLORED = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (4, 6), dtype=np.uint8)
PLAIN: dict[str, Any] = {"width": 6, "height": 4, "scale": 1.0}


def send(
    body: object, *, protocol: Protocol = Protocol.V2, answer: Any = ((0.0,),), **given: Any
) -> tuple[Answered, FakePredictor]:
    predictor = FakePredictor(np.asarray(answer))
    settings = ImageSettings(**{**PLAIN, **given})
    transformer = ImageTransformer("m", PredictorSettings(protocol=protocol), images=settings)
    return ask(transformer, body, predictor=predictor), predictor


def pixels_of(content: bytes, **given: Any) -> np.ndarray:
    answer, predictor = send({"instances": [{"b64": as_text(content)}]}, **given)
    assert answer.status == 200, answer.body
    return predictor.questions[0].as_array()


class TestPixels:
    @pytest.mark.parametrize("protocol", [Protocol.V1, Protocol.V2])
    def test_layouts(self, protocol: Protocol) -> None:
        whole = COLORED.astype("float32")[None]
        content = encoded(COLORED)
        np.testing.assert_array_equal(pixels_of(content, protocol=protocol), whole.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(pixels_of(content, protocol=protocol, layout=Layout.NHWC), whole)
        np.testing.assert_array_equal(pixels_of(content, protocol=protocol, layout=Layout.FLAT), whole.reshape(1, -1))

    def test_scale_mean_and_deviation_by_channel(self) -> None:
        given = {"scale": 1 / 255, "mean": (0.5, 0.4, 0.3), "std": (0.1, 0.2, 0.4), "layout": Layout.NHWC}
        expected = (COLORED / 255 - np.array([0.5, 0.4, 0.3])) / np.array([0.1, 0.2, 0.4])
        np.testing.assert_allclose(pixels_of(encoded(COLORED), **given)[0], expected, rtol=1e-4, atol=1e-5)

    def test_grey_pictures_and_colored_ones_become_what_is_asked_for(self) -> None:
        assert pixels_of(encoded(GREY)).shape == (1, 3, 4, 6)
        np.testing.assert_array_equal(pixels_of(encoded(GREY), mode="L")[0, 0], GREY)
        assert pixels_of(encoded(COLORED), mode="L").shape == (1, 1, 4, 6)

    def test_jpeg_and_transparent_png(self) -> None:
        flat = np.full((4, 6, 3), 100)
        assert np.abs(pixels_of(encoded(flat, "JPEG", quality=95)) - 100).max() <= 3
        assert pixels_of(encoded(np.full((4, 6, 4), 9)), mode="RGBA").shape == (1, 4, 4, 6)

    def test_resizing(self) -> None:
        big = np.kron(np.array([[0, 200], [200, 0]]), np.ones((50, 50)))
        found = pixels_of(encoded(big), mode="L", width=2, height=2)[0, 0]
        np.testing.assert_allclose(found, [[0, 200], [200, 0]], atol=60)  # Bilinear, so neighbours count.

    @pytest.mark.parametrize("dtype", ["FP32", "FP16", "FP64", "UINT8"])
    def test_datatypes(self, dtype: str) -> None:
        _, predictor = send({"instances": [as_text(encoded(GREY))]}, dtype=dtype, input_name="pixels")
        (tensor,) = predictor.questions[0].tensors
        assert (tensor.name, tensor.datatype.name) == ("pixels", dtype)


class TestRequests:
    TEXT = as_text(encoded(COLORED))

    @pytest.mark.parametrize(
        "instance",
        [
            TEXT,
            {"b64": TEXT},
            {"image": {"b64": TEXT}},
            {"image": TEXT},
            {"data": TEXT, "target": 0},
            f"data:image/png;base64,{TEXT}",
        ],
    )
    def test_v1_takes_what_clients_send(self, instance: Any) -> None:
        answer, predictor = send({"instances": [instance, instance]})
        assert answer.status == 200, answer.body
        assert predictor.questions[0].as_array().shape == (2, 3, 4, 6)  # A batch stays one request.

    def test_v2_takes_base64_in_json(self) -> None:
        item = {"name": "images", "shape": [1], "datatype": "BYTES", "data": [self.TEXT]}
        answer, predictor = send({"inputs": [item]})
        assert answer.status == 200, answer.body
        assert predictor.questions[0].as_array().shape == (1, 3, 4, 6)

    @pytest.mark.parametrize(
        ("instance", "error"),
        [
            ("!!", "instances[0]: is no base64"),
            (as_text(b"plain text"), "instances[0]: is no PNG or JPEG"),
            (as_text(encoded(COLORED, "GIF")), "instances[0]: is no PNG or JPEG"),
            (as_text(encoded(COLORED)[:60]), "instances[0]: the image is broken"),
            (as_text(bomb(5000)), "instances[0]: 5000 x 5000 pixels, at most 16000000 are allowed"),
            (as_text(bomb(60_000)), "pixels"),
            (3, "instances[0]: expected base64"),
            ({"picture": "x"}, "instances[0]: expected base64"),
        ],
        ids=["base64", "text", "gif", "cut", "bomb", "giant", "number", "key"],
    )
    def test_what_is_no_picture_is_a_400_that_says_which(self, instance: Any, error: str) -> None:
        answer, predictor = send({"instances": [instance]})
        assert answer.status == 400
        assert error in answer.body["error"]
        assert predictor.questions == []

    def test_the_place_in_a_batch_is_named(self) -> None:
        answer, _ = send({"instances": [self.TEXT, "!!"]})
        assert "instances[1]" in answer.body["error"]

    def test_too_many_and_none(self) -> None:
        assert "at most 1" in send({"instances": [self.TEXT] * 2}, batch_max=1)[0].body["error"]
        assert "at least one image" in send({"instances": []})[0].body["error"]

    def test_numbers_in_v2_are_refused_with_what_was_expected(self) -> None:
        item = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}
        assert "expected one input of BYTES" in send({"inputs": [item]})[0].body["error"]


class TestLabels:
    SCORES = ((0.1, 0.7, 0.2), (0.5, 0.3, 0.2))
    BODY: Any = {"instances": [as_text(encoded(COLORED))] * 2}  # noqa: RUF012  # Nobody changes it.

    @pytest.mark.parametrize("protocol", [Protocol.V1, Protocol.V2])
    def test_the_best_of_each_picture(self, protocol: Protocol) -> None:
        answer, _ = send(self.BODY, protocol=protocol, answer=self.SCORES, top_k=2, labels=("a", "b", "c"))
        first, second = answer.body["predictions"]
        assert [entry["label"] for entry in first] == ["b", "c"]
        assert second[0] == {"label": "a", "score": pytest.approx(0.5)}

    def test_v2_has_labels_and_scores_as_tensors(self) -> None:
        item = {"name": "images", "shape": [1], "datatype": "BYTES", "data": [as_text(encoded(COLORED))]}
        answer, _ = send({"inputs": [item]}, answer=self.SCORES[:1], top_k=2)
        labels, scores = answer.body["outputs"]
        assert (labels["name"], labels["shape"], labels["data"]) == ("labels", [1, 2], ["1", "2"])
        assert scores["data"] == pytest.approx([0.7, 0.2])

    def test_without_top_k_the_predictors_answer_passes(self) -> None:
        assert send(self.BODY, answer=self.SCORES)[0].body == {"predictions": [list(row) for row in self.SCORES]}

    def test_labels_that_do_not_fit_the_scores_are_the_servers_fault(self) -> None:
        answer, _ = send(self.BODY, answer=self.SCORES, top_k=1, labels=("a",))
        assert (answer.status, "1 labels for 3 scores" in answer.body["error"]) == (500, True)


class TestSettings:
    def test_flags_win_over_the_environment(self, tmp_path: Path) -> None:
        names = tmp_path / "labels.txt"
        names.write_text("cat\ndog\n")
        argv = ["--width=28", "--height", "28", "--mean", "0.5", f"--labels=@{names}", "--layout=NHWC", "--other=1"]
        found = ImageSettings.parse(argv, {"IMAGE_WIDTH": "9", "IMAGE_MODE": "L", "IMAGE_TOP_K": "3"})
        assert (found.width, found.height, found.mode, found.top_k) == (28, 28, "L", 3)
        assert (found.mean, found.labels, found.layout) == ((0.5,), ("cat", "dog"), Layout.NHWC)

    @pytest.mark.parametrize(
        ("flag", "error"),
        [
            ("--width=0", r"--width = 0, must be in \[1, 8192\]"),
            ("--width=wide", "--width = wide, must be a number"),
            ("--mode=CMYK", "--mode = CMYK, must be one of L, RGB, RGBA"),
            ("--layout=CHW", "--layout = CHW, must be nchw, nhwc, flat"),
            ("--mean=1,2", "must be one number, or 3"),
            ("--std=0", "must be more than 0"),
            ("--dtype=INT8", "--dtype = INT8, must be FP32"),
            ("--labels=@/nowhere", "--labels = @/nowhere, cannot be read"),
        ],
    )
    def test_a_value_that_is_none_names_the_flag(self, flag: str, error: str) -> None:
        with pytest.raises(UserError, match=error):
            ImageSettings.parse([flag], {})
