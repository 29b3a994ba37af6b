"""The floor: asyncio, uvloop and httptools around the model's call, without checks, errors, metrics or limits."""

from __future__ import annotations

import asyncio
from typing import Any

import arguments
import httptools
import numpy as np
import orjson
import uvloop

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_DTYPES = {"FP32": np.float32, "FP64": np.float64}
_JSON_LENGTH = b"inference-header-content-length"


class Bare(asyncio.Protocol):
    """One connection."""

    def __init__(self, predict: Any) -> None:
        self._predict = predict
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._chunks: list[bytes] = []
        self._json_length: int | None = None

    def on_url(self, url: bytes) -> None:
        self._path = url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == _JSON_LENGTH:
            self._json_length = int(value)

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        if self._path.startswith(b"/v1/"):
            answer = orjson.dumps({"predictions": self._predict(np.array(orjson.loads(body)["instances"])).tolist()})
        elif self._json_length is not None:
            answer = _binary(body, self._json_length)
        else:
            answer = self._v2(orjson.loads(body)) if body else b"{}"
        self._transport.write(_HEAD % len(answer) + answer)

    def _v2(self, message: Any) -> bytes:
        given = message["inputs"][0]
        rows = np.array(given["data"], dtype=_DTYPES[given["datatype"]]).reshape(given["shape"])
        return _answer("iris", self._predict(rows), "INT64")


def _binary(body: bytes, json_length: int) -> bytes:
    given = orjson.loads(memoryview(body)[:json_length])["inputs"][0]
    image = np.frombuffer(body, dtype=np.float32, offset=json_length).reshape(given["shape"])
    return _answer("image", image.mean(axis=(2, 3)), "FP32")


def _answer(model: str, found: Any, datatype: str) -> bytes:
    output = {"name": "output-0", "shape": found.shape, "datatype": datatype, "data": found.reshape(-1)}
    message = {"model_name": model, "id": "1", "outputs": [output]}
    return orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)


async def main() -> None:
    given = arguments.parse()
    predict = arguments.iris(given.models).predict
    server = await asyncio.get_running_loop().create_server(lambda: Bare(predict), "127.0.0.1", given.http_port)
    await server.serve_forever()


uvloop.run(main())
