"""An explainer: how much each feature of a row speaks for the predicted class, found by leaving the feature out.

The predictor answers with the probabilities of the classes (PREDICT_PROBA for scikit-learn). A feature that is left out has
its value in BASELINE, a JSON list, or 0.
"""

import json
import os

import numpy as np

from ladle import InvalidInput, Transformer, serve


class Occlusion(Transformer):
    async def explain(self, request):
        rows = request.as_array()
        features = rows.shape[1]
        baseline = np.array(json.loads(os.environ.get("BASELINE", "null")) or [0.0] * features)
        if len(baseline) != features:
            raise InvalidInput(f"a row has {features} features, BASELINE {len(baseline)}")
        # Each row as it is, and once for each feature without it: all of them in one question.
        without = np.where(np.eye(features, dtype=bool), baseline, rows[:, None, :])
        asked = np.concatenate([rows[:, None, :], without], axis=1).reshape(-1, features)
        scores = (await self.ask(asked, request)).as_array().reshape(len(rows), features + 1, -1)
        classes = scores[:, 0].argmax(axis=1)
        of_class = np.take_along_axis(scores, classes[:, None, None], axis=2)[:, :, 0]
        importance = of_class[:, :1] - of_class[:, 1:]
        return {
            "explanations": [
                {"class": int(label), "importance": row}
                for label, row in zip(classes, importance.tolist(), strict=True)
            ]
        }


if __name__ == "__main__":
    serve(Occlusion())
