"""A transformer: digits whose pixels go from 0 to 32 for a model that knows 0 to 16, and words for its answer."""

from ladle import InvalidInput, Transformer, serve

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


class Halves(Transformer):
    def preprocess(self, request):
        rows = request.as_array()
        if rows.max() > 32:
            raise InvalidInput("pixels go from 0 to 32")
        return rows / 2

    def postprocess(self, prediction, request):
        request.response_headers["x-model"] = self.name
        return {"predictions": [WORDS[int(label)] for label in prediction.as_array()]}


if __name__ == "__main__":
    serve(Halves())
