"""The image transformer."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ladle.errors import InvalidInput
from ladle.protocol.messages import InferRequest, ModelMetadata, TensorMetadata
from ladle.protocol.tensor import Tensor, tensor_of
from ladle.transformer.messages import Prediction
from ladle.transformer.settings import PredictorSettings, Protocol
from ladle.transformer.transformer import Transformer
from transformer.image.labels import top_labels
from transformer.image.pixels import decode_base64, decode_image, tensor_of_pixels
from transformer.image.settings import ImageSettings

_CLIENTS_KEYS = ("image", "data", "b64")
"""Where KServe's and TorchServe's clients put an image in an instance."""


class ImageTransformer(Transformer):
    """PNG and JPEG in, as base64 in V1 or as BYTES in V2; one tensor of all images to the predictor; top-k labels out."""

    def __init__(
        self, name: str = "", predictor: PredictorSettings | None = None, *, images: ImageSettings | None = None
    ) -> None:
        super().__init__(name, predictor)
        self._images = images or ImageSettings()

    def preprocess(self, request: InferRequest) -> Any:
        contents = _contents(request)
        if not contents:
            raise InvalidInput("expected at least one image")
        if len(contents) > self._images.batch_max:
            raise InvalidInput(f"{len(contents)} images, at most {self._images.batch_max} are allowed in one request")
        images = [decode_image(content, self._images, where) for where, content in contents]
        batch = tensor_of_pixels(images, self._images)
        if self.settings.protocol is Protocol.V1:
            return {"instances": batch}
        return tensor_of(self._images.input_name, batch, self._images.dtype)

    def postprocess(self, result: Prediction, request: InferRequest) -> Any:
        if not self._images.top_k:
            return result
        scores = result.as_array(self._images.output_name)
        rows = top_labels(scores, count=self._images.top_k, labels=self._images.labels)
        return {"predictions": rows} if request.is_v1 else _tensors(rows)

    def metadata(self) -> ModelMetadata:
        outputs: tuple[TensorMetadata, ...] = ()
        if self._images.top_k:
            shape = (-1, self._images.top_k)
            outputs = (TensorMetadata("labels", "BYTES", shape), TensorMetadata("scores", "FP64", shape))
        return ModelMetadata(
            name=self.name,
            platform="ladle-image-transformer",
            inputs=(TensorMetadata("images", "BYTES", (-1,)),),
            outputs=outputs,
            properties={"engine": "transformer", "images": json.dumps([self._images.width, self._images.height])},
        )


def _contents(request: InferRequest) -> list[tuple[str, bytes]]:
    """Each image's bytes, with words for where it was."""
    if not request.is_v1:
        return _contents_of_tensors(request)
    found = []
    for index, instance in enumerate(request.instances):
        where = f"instances[{index}]"
        value = instance
        while isinstance(value, dict) and "b64" not in value:
            key = next((key for key in _CLIENTS_KEYS if key in value), None)
            if key is None:
                raise InvalidInput(f'{where}: expected base64, {{"b64": …}}, or that under "image" or "data"')
            value = value[key]
        found.append((where, decode_base64(value, where)))
    return found


def _contents_of_tensors(request: InferRequest) -> list[tuple[str, bytes]]:
    if not request.inputs or request.inputs[0].datatype.name != "BYTES":
        got = request.inputs[0].datatype.name if request.inputs else "none"
        raise InvalidInput(f"expected one input of BYTES with PNG or JPEG files, got {got}")
    tensor = request.inputs[0]
    # JSON has no bytes, so there each element is base64.
    return [
        (f"input '{tensor.name}'[{index}]", _file_or_base64(element, f"input '{tensor.name}'[{index}]"))
        for index, element in enumerate(tensor.array.flat)
    ]


def _file_or_base64(element: Any, where: str) -> bytes:
    content = element if isinstance(element, bytes) else str(element).encode()
    if content.startswith((b"\x89PNG", b"\xff\xd8")):
        return content
    return decode_base64(content.decode("utf-8", "replace"), where)


def _tensors(rows: list[list[dict[str, Any]]]) -> list[Tensor]:
    labels = np.array([[str(entry["label"]) for entry in row] for row in rows], dtype=object)
    scores = np.array([[entry["score"] for entry in row] for row in rows], dtype=np.float64)
    return [tensor_of("labels", labels, "BYTES"), tensor_of("scores", scores)]
