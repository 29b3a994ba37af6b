"""FastAPI on uvicorn as one would write it by hand: the raw request, orjson, no models of pydantic."""

from __future__ import annotations

from typing import Any

import arguments
import numpy as np
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

_DTYPES = {"FP32": np.float32, "FP64": np.float64}
_given = arguments.parse()
_predict = arguments.iris(_given.models).predict
_app = FastAPI()


@_app.post("/v1/models/iris:predict")
async def predict(request: Request) -> Response:
    rows = np.array(orjson.loads(await request.body())["instances"])
    return _json({"predictions": _predict(rows).tolist()})


@_app.post("/v2/models/iris/infer")
async def infer(request: Request) -> Response:
    given = orjson.loads(await request.body())["inputs"][0]
    rows = np.array(given["data"], dtype=_DTYPES[given["datatype"]]).reshape(given["shape"])
    return _json(_answer("iris", _predict(rows), "INT64"))


@_app.post("/v2/models/image/infer")
async def infer_image(request: Request) -> Response:
    body = await request.body()
    json_length = int(request.headers["inference-header-content-length"])
    given = orjson.loads(body[:json_length])["inputs"][0]
    image = np.frombuffer(body, dtype=np.float32, offset=json_length).reshape(given["shape"])
    return _json(_answer("image", image.mean(axis=(2, 3)), "FP32"))


def _answer(model: str, found: Any, datatype: str) -> dict[str, Any]:
    output = {"name": "output-0", "shape": found.shape, "datatype": datatype, "data": found.reshape(-1)}
    return {"model_name": model, "id": "1", "outputs": [output]}


def _json(message: dict[str, Any]) -> Response:
    return Response(orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


uvicorn.run(_app, host="127.0.0.1", port=_given.http_port, log_level="warning", access_log=False)
