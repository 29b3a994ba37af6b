"""How a transformer is tested: no server, no predictor."""

from halves import Halves

from ladle.testing import FakePredictor, ask


def test_pixels_are_halved_and_labels_are_words():
    predictor = FakePredictor({"predictions": [7]})
    answer = ask(Halves("digits"), {"instances": [[32, 16]]}, predictor=predictor)
    assert answer.body == {"predictions": ["seven"]}
    assert predictor.questions[0].as_array().tolist() == [[16, 8]]
