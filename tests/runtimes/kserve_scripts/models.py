"""Models as KServe's documentation has its users write them, one for each thing that a hook may do. They know no Ladle."""

import argparse

import kserve
import numpy as np
from fastapi import HTTPException
from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model, ModelServer, logging, model_server
from kserve.errors import InferenceError, InvalidInput, ModelNotReady
from kserve.utils.utils import generate_uuid, get_predict_input, get_predict_response


class Doubler(Model):
    """V1 and V2 by KServe's own functions; hooks pass notes in the headers they share."""

    def __init__(self, name: str):
        super().__init__(name, return_response_headers=True)
        self.ready = False

    def load(self) -> bool:
        self.factor = 2
        self.ready = True
        return self.ready

    def preprocess(self, payload: dict | InferRequest, headers: dict[str, str] | None = None):
        headers["x-preprocessed"] = "yes"
        return payload

    def predict(self, payload, headers: dict[str, str] | None = None, response_headers: dict[str, str] | None = None):
        response_headers["x-preprocessed"] = headers["x-preprocessed"]
        response_headers["x-caller"] = headers.get("x-caller", "nobody")
        rows = get_predict_input(payload)
        rows *= self.factor  # In place: KServe's arrays are the model's own.
        return get_predict_response(payload, rows, self.name)

    def postprocess(
        self, result, headers: dict[str, str] | None = None, response_headers: dict[str, str] | None = None
    ):
        response_headers["x-postprocessed"] = "yes"
        return result

    def explain(self, payload: dict, headers: dict[str, str] | None = None) -> dict:
        return {"explanations": payload["instances"]}

    def get_input_types(self):
        return [{"name": "input-0", "datatype": "FP64", "shape": [-1, 2]}]

    def get_output_types(self):
        return [{"name": "output-0", "datatype": "FP64", "shape": [-1, 2]}]


class AsyncDoubler(Doubler):
    """The same, waiting."""

    async def predict(
        self, payload, headers: dict[str, str] | None = None, response_headers: dict[str, str] | None = None
    ):
        return Doubler.predict(self, payload, headers, response_headers)


class Raising(Model):
    """Raises what the first instance names."""

    def __init__(self, name: str):
        super().__init__(name)
        self.load()

    def predict(self, payload: dict, headers: dict[str, str] | None = None) -> dict:
        errors = {
            "invalid": InvalidInput("rows of two, please"),
            "inference": InferenceError("the model broke"),
            "not-ready": ModelNotReady(self.name, "It sleeps."),
            "teapot": HTTPException(status_code=418, detail="tea only", headers={"x-pot": "green"}),
            "value": ValueError("no idea"),
            "missing": NotImplementedError("not yet"),
        }
        raise errors[payload["instances"][0]]


class Fields(Model):
    """Answers with what a request looks like from inside."""

    def __init__(self, name: str):
        super().__init__(name)
        self.load()

    def load(self):
        self.ready = True

    def predict(self, payload: InferRequest, headers: dict[str, str] | None = None) -> InferResponse:
        tensor: InferInput = payload.inputs[0]
        described = [
            type(payload).__mro__[1].__name__,
            payload.id or "",
            str(payload.from_grpc),
            repr(payload.parameters.get("p")).strip() if payload.parameters else "",
            repr(tensor.data),
            repr(tensor.as_numpy().tolist()),
            str(payload.get_input_by_name("nothing")),
            str([wanted.name for wanted in payload.request_outputs or []]),
        ]
        output = InferOutput("fields", [len(described)], "BYTES", described)
        return InferResponse(generate_uuid(), self.name, [output], parameters={"seen": True})


class Forms(Model):
    """Answers in each form that KServe takes, as the request says."""

    def __init__(self, name: str):
        super().__init__(name)
        self.load()

    def load(self):
        self.ready = True

    def predict(self, payload, headers: dict[str, str] | None = None):
        if isinstance(payload, dict):
            return {"list": [1, 2], "array": np.arange(2), "text": "plain", "v2": self.response()}[payload["form"]]
        form = payload.inputs[0].as_numpy()[0]
        form = form.decode() if isinstance(form, bytes) else form
        values = np.array([[1, 2], [3, 4]], dtype=np.float16 if form == "half" else np.int32)
        item = {"name": "y", "shape": [2, 2], "datatype": "INT32"}
        if form == "dict":
            return {"id": "own", "model_name": self.name, "outputs": [{**item, "data": values.reshape(-1).tolist()}]}
        if form == "contents":
            return {
                "id": "own",
                "model_name": self.name,
                "outputs": [{**item, "contents": {"int_contents": [1, 2, 3, 4]}}],
            }
        if form == "message":
            return self.response().to_grpc()
        if form == "broken":
            return {"id": "own", "model_name": self.name, "outputs": [{**item, "data": [1, 2, 3]}]}
        if form == "half":
            output = InferOutput("y", [2, 2], "FP16")
            output.set_data_from_numpy(values, binary_data=True)
            return InferResponse("own", self.name, [output])
        return values if form == "array" else self.response()

    def response(self) -> InferResponse:
        return InferResponse("own", self.name, [InferOutput("y", [2, 2], "INT32", [1, 2, 3, 4])])


class OldStyle(Model):
    """For a KServe whose hooks had no headers yet; `ready` goes up and down."""

    def __init__(self, name: str):
        super().__init__(name)
        self.load()

    def load(self):
        self.ready = True

    def predict(self, payload):
        if payload["instances"] == ["sleep"]:
            self.ready = False
        return {"predictions": payload["instances"]}


class Raw(Model):
    """Takes what is not JSON as it came."""

    def __init__(self, name: str):
        super().__init__(name)
        self.load()

    def load(self):
        self.ready = True

    def predict(self, payload: bytes, headers: dict[str, str] | None = None):
        return {"bytes": len(payload), "type": headers["content-type"]}


class Whole(kserve.model.InferenceModel):
    """Defines the call itself."""

    def __init__(self, name: str):
        super().__init__(name)
        self.ready = True

    async def __call__(self, body, headers=None, verb=kserve.model.InferenceVerb.PREDICT):
        return {"verb": verb.name.lower()}, {"x-whole": "yes"}


parser = argparse.ArgumentParser(parents=[model_server.parser])
parser.add_argument("--also", default="", help="a flag of the script's own")
args, _ = parser.parse_known_args()

if __name__ == "__main__":
    if args.configure_logging:
        logging.configure_logging(args.log_config_file)
    doubler = Doubler(args.model_name)
    doubler.load()
    slow = AsyncDoubler("async")
    slow.load()
    server = ModelServer(enable_docs_url=False)
    server.register_model(OldStyle("old"), args.also)
    server.start([doubler, slow, Raising("raising"), Fields("fields"), Forms("forms"), Raw("raw"), Whole("whole")])
