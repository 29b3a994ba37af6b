"""A transformer as KServe's documentation has its users write it: hooks here, predict at the predictor. Knows no Ladle."""

import argparse

import kserve
import numpy as np
from kserve import InferInput, InferRequest, InferResponse, ModelServer


class Scaler(kserve.Model):
    """Rows come in tenths; labels go out with names."""

    def __init__(self, name: str, predictor_host: str | None = None, protocol: str = "v1"):
        super().__init__(name)
        self.predictor_host = predictor_host
        self.protocol = protocol
        self.ready = True

    def preprocess(self, payload: dict | InferRequest, headers: dict[str, str] | None = None):
        rows = payload["instances"] if isinstance(payload, dict) else payload.inputs[0].as_numpy()
        rows = np.array(rows, dtype=np.float64) / 10
        if self.protocol == "v1":
            return {"instances": rows.tolist()}
        tensor = InferInput("input-0", list(rows.shape), "FP64")
        tensor.set_data_from_numpy(rows, binary_data=self.protocol == "grpc-v2")
        return InferRequest(self.name, [tensor])

    def postprocess(self, result: dict | InferResponse, headers: dict[str, str] | None = None):
        labels = result["predictions"] if isinstance(result, dict) else result.outputs[0].as_numpy().tolist()
        return {"predictions": [f"kind {label}" for label in labels]}


parser = argparse.ArgumentParser(parents=[kserve.model_server.parser])
args, _ = parser.parse_known_args()

if __name__ == "__main__":
    model = Scaler(args.model_name, args.predictor_host, args.predictor_protocol)
    ModelServer(workers=1).start([model])
