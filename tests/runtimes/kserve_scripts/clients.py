"""kserve's own clients: a server's HTTP and gRPC addresses and an explainer's in; what they were told out, as JSON."""

import asyncio
import json
import sys
from collections.abc import Awaitable
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

ROWS = np.array([[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]], dtype=np.float32)


def request(*, binary: bool, model: str = "iris", rows: np.ndarray = ROWS) -> InferRequest:
    tensor = InferInput("input-0", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return InferRequest(model, [tensor], request_id="7")


async def refused(answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except httpx.HTTPStatusError as error:
        return [error.response.status_code, str(error)]
    except grpc.RpcError as error:
        return [error.code().name, error.details()]


async def rest(url: str, explaining_url: str) -> dict:
    said: dict = {}
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as v1:
        said["v1 live"] = await v1.is_server_live(url)
        said["v1 model ready"] = await v1.is_model_ready(url, "iris")
        said["v1 infer"] = await v1.infer(url, {"instances": ROWS.tolist()}, model_name="iris")
        said["v1 explain"] = await v1.explain(explaining_url, "echo", {"instances": ROWS.tolist()})
        said["v1 no explanation"] = await refused(v1.explain(url, "iris", {"instances": ROWS.tolist()}))
        said["v1 unknown model"] = await refused(v1.is_model_ready(url, "none"))
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as v2:
        said["v2 live"] = await v2.is_server_live(url)
        said["v2 ready"] = await v2.is_server_ready(url)
        said["v2 model ready"] = await v2.is_model_ready(url, "iris")
        said["v2 unknown model ready"] = await v2.is_model_ready(url, "none")
        for binary in (False, True):
            headers: dict = {}
            answer = await v2.infer(url, request(binary=binary), model_name="iris", response_headers=headers)
            said[f"v2 infer binary={binary}"] = [answer.id, answer.model_name, answer.outputs[0].as_numpy().tolist()]
        everything = request(binary=True)
        everything.parameters = {"binary_data_output": True}
        answer = await v2.infer(url, everything, model_name="iris")
        said["v2 infer binary output"] = answer.outputs[0].as_numpy().tolist()
        narrow = request(binary=True, rows=ROWS[:, :2].copy())
        said["v2 wrong shape"] = await refused(v2.infer(url, narrow, model_name="iris"))
        said["v2 unknown model"] = await refused(v2.infer(url, request(binary=False), model_name="none"))
    return said


async def by_grpc(address: str) -> dict:
    said: dict = {}
    async with InferenceGRPCClient(address) as client:
        said["grpc live"] = await client.is_server_live()
        said["grpc ready"] = await client.is_server_ready()
        said["grpc model ready"] = await client.is_model_ready("iris")
        said["grpc unknown model ready"] = await refused(client.is_model_ready("none"))
        for binary in (False, True):
            answer = await client.infer(request(binary=binary), headers=(("x-caller", "me"),))
            said[f"grpc infer raw={binary}"] = [answer.id, answer.model_name, answer.outputs[0].as_numpy().tolist()]
        said["grpc unknown model"] = await refused(client.infer(request(binary=True, model="none")))
    return said


async def main(http: str, grpc_address: str, explaining_http: str) -> None:
    said = {**await rest(f"http://{http}", f"http://{explaining_http}"), **await by_grpc(grpc_address)}
    sys.stdout.write(json.dumps(said))


asyncio.run(main(*sys.argv[1:]))
