"""MLServer's form of the image model; its scikit-learn runtime serves the other."""

from __future__ import annotations

from typing import Any

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Image(MLModel):
    async def load(self) -> bool:
        return True

    async def predict(self, payload: Any) -> Any:
        image = NumpyCodec.decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output("output-0", image.mean(axis=(2, 3)))
        return InferenceResponse(model_name=self.name, outputs=[output])
