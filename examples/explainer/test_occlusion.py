"""How an explainer is tested: no server, no predictor."""

from occlusion import Occlusion

from ladle.testing import FakePredictor, ask


def first_feature_decides(question):
    rows = question.as_array()
    return {"predictions": [[1 - row[0], row[0]] for row in rows.tolist()]}


def test_the_feature_that_decides_has_all_the_importance():
    predictor = FakePredictor(first_feature_decides)
    answer = ask(Occlusion("m"), {"instances": [[0.75, 5.0]]}, predictor=predictor, verb="explain")
    assert answer.body == {"explanations": [{"class": 1, "importance": [0.75, 0.0]}]}
    assert predictor.questions[0].as_array().tolist() == [[0.75, 5.0], [0.0, 5.0], [0.75, 0.0]]


def test_a_baseline_of_another_width_is_refused(monkeypatch):
    monkeypatch.setenv("BASELINE", "[1, 2, 3]")
    answer = ask(Occlusion("m"), {"instances": [[0.75, 5.0]]}, predictor=FakePredictor({}), verb="explain")
    assert (answer.status, answer.body) == (400, {"error": "a row has 2 features, BASELINE 3"})
