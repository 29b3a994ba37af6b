"""kserve.Model subclasses that know nothing of Ladle, run by `--kserve` with the real kserve package, asked from outside."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ports import free_port
from tests.runtimes.processes import KSERVE_PYTHON, Running, environment, needs_kserve, serving
from tests.waiting import wait_for

triton_http = pytest.importorskip("tritonclient.http")
triton_grpc = pytest.importorskip("tritonclient.grpc")
pytestmark = needs_kserve
SCRIPTS = Path(__file__).parent / "kserve_scripts"
PYSERVER = [KSERVE_PYTHON, "-m", "runtimes.pyserver"]
ROWS = [[1.0, 2.0], [3.0, 4.0]]
DTYPES = {"FP32": "f4", "FP64": "f8", "INT64": "i8", "UINT8": "u1"}
DOUBLED = [[2.0, 4.0], [6.0, 8.0]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    command = [*PYSERVER, "--kserve", str(SCRIPTS / "models.py"), "--model_name=doubler", "--also=alias"]
    with serving(command, tmp_path_factory.mktemp("kserve-models")) as running:
        yield running


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(server: Running, path: str, body: Any = None, **headers: str) -> Answer:
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    named = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    request = urllib.request.Request(f"{server.url}{path}", data=data, headers=named)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


def v1(server: Running, model: str, instances: Any, **headers: str) -> Answer:
    return ask(server, f"/v1/models/{model}:predict", {"instances": instances}, **headers)


def http_tensor(values: np.ndarray, datatype: str, *, binary: bool = True) -> Any:
    tensor = triton_http.InferInput("input-0", list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


def grpc_tensor(values: np.ndarray, datatype: str) -> Any:
    tensor = triton_grpc.InferInput("input-0", list(values.shape), datatype)
    tensor.set_data_from_numpy(values)
    return tensor


@contextlib.contextmanager
def grpc_client(server: Running) -> Iterator[Any]:
    with triton_grpc.InferenceServerClient(server.grpc) as client:
        yield client


class TestHooks:
    @pytest.mark.parametrize("model", ["doubler", "async"])
    def test_all_of_them_see_the_headers_and_may_answer_some(self, server: Running, model: str) -> None:
        answer = v1(server, model, ROWS, x_caller="me")
        assert answer.json == {"predictions": DOUBLED}
        sent = {name: answer.headers.get(name) for name in ("x-preprocessed", "x-caller", "x-postprocessed")}
        assert sent == {"x-preprocessed": "yes", "x-caller": "me", "x-postprocessed": "yes"}

    @pytest.mark.parametrize("model", ["doubler", "async"])
    @pytest.mark.parametrize("binary", [True, False])
    @pytest.mark.parametrize("datatype", DTYPES)
    def test_v2(self, server: Running, model: str, binary: bool, datatype: str) -> None:
        values = np.array(ROWS).astype(DTYPES[datatype])
        with triton_http.InferenceServerClient(server.http) as client:
            wanted = [triton_http.InferRequestedOutput("output-0", binary_data=binary)]
            answer = client.infer(model, [http_tensor(values, datatype, binary=binary)], outputs=wanted, request_id="7")
        assert answer.as_numpy("output-0").tolist() == DOUBLED
        assert answer.get_output("output-0")["datatype"] == datatype
        assert answer.get_response()["id"] == "7"

    def test_grpc(self, server: Running) -> None:
        with grpc_client(server) as client:
            answer = client.infer("doubler", [grpc_tensor(np.array(ROWS), "FP64")], headers={"x-caller": "me"})
        assert answer.as_numpy("output-0").tolist() == DOUBLED

    def test_an_explanation(self, server: Running) -> None:
        answer = ask(server, "/v1/models/doubler:explain", {"instances": ROWS})
        assert answer.json == {"explanations": ROWS}

    def test_types_are_metadata(self, server: Running) -> None:
        metadata = ask(server, "/v2/models/doubler").json
        assert metadata["inputs"] == [{"name": "input-0", "datatype": "FP64", "shape": [-1, 2]}]
        assert metadata["outputs"] == [{"name": "output-0", "datatype": "FP64", "shape": [-1, 2]}]
        assert metadata["properties"] == {"engine": "kserve", "model_class": "Doubler"}

    def test_a_class_for_an_older_kserve_takes_fewer_arguments(self, server: Running) -> None:
        assert v1(server, "alias", [1]).json == {"predictions": [1]}

    def test_a_class_that_defines_the_call_itself(self, server: Running) -> None:
        answer = v1(server, "whole", [1])
        assert (answer.json, answer.headers["x-whole"]) == ({"verb": "predict"}, "yes")
        assert ask(server, "/v1/models/whole:explain", {"instances": [1]}).json == {"verb": "explain"}


class TestLife:
    def test_ready_is_the_models_own_word(self, server: Running) -> None:
        assert ask(server, "/v1/models/alias").status == 200
        assert v1(server, "alias", ["sleep"]).status == 200
        assert ask(server, "/v1/models/alias").status == 503
        assert v1(server, "alias", [1]).status == 503
        assert ask(server, "/v2/repository/models/alias/load", {}).status == 200
        assert v1(server, "alias", [1]).status == 200

    def test_it_can_be_unloaded_and_loaded_again(self, server: Running) -> None:
        assert ask(server, "/v2/repository/models/async/unload", {}).status == 200
        assert v1(server, "async", ROWS).status == 503
        assert ask(server, "/v2/repository/models/async/load", {}).status == 200
        assert v1(server, "async", ROWS).json == {"predictions": DOUBLED}


class TestErrors:
    @pytest.mark.parametrize(
        ("kind", "status", "body"),
        [
            ("invalid", 400, {"error": "rows of two, please"}),
            ("inference", 500, {"error": "the model broke"}),
            ("not-ready", 503, {"error": "Model with name raising is not ready. It sleeps."}),
            ("teapot", 418, {"detail": "tea only"}),
            ("value", 500, {"error": "ValueError : no idea"}),
            ("missing", 501, {"error": "not yet"}),
        ],
    )
    def test_they_are_answered_as_kserve_answers_them(self, server: Running, kind: str, status: int, body: Any) -> None:
        answer = v1(server, "raising", [kind])
        assert (answer.status, answer.json) == (status, body)
        assert answer.headers.get("x-pot") == ("green" if kind == "teapot" else None)

    def test_instances_that_are_no_list(self, server: Running) -> None:
        answer = v1(server, "doubler", "text")
        assert (answer.status, answer.json) == (400, {"error": 'Expected "instances" to be a list'})


class TestRequestsFromInside:
    """What a model sees is what it would see in KServe."""

    def fields(self, answer: Any) -> list[str]:
        return [text.decode() for text in answer.as_numpy("fields")]

    def test_json_is_nested_as_it_came(self, server: Running) -> None:
        tensor = {"name": "x", "shape": [2, 2], "datatype": "FP64", "data": ROWS}
        body = {"id": "7", "parameters": {"p": "q"}, "inputs": [tensor], "outputs": [{"name": "fields"}]}
        answer = ask(server, "/v2/models/fields/infer", body).json
        assert answer["outputs"][0]["data"] == [
            *("InferRequest", "7", "False", "'q'", "[[1.0, 2.0], [3.0, 4.0]]", "[[1.0, 2.0], [3.0, 4.0]]"),
            *("None", "['fields']"),
        ]
        assert answer["parameters"] == {"seen": True}

    def test_binary_tensors_are_flat_lists(self, server: Running) -> None:
        with triton_http.InferenceServerClient(server.http) as client:
            fields = self.fields(
                client.infer("fields", [http_tensor(np.array([b"a", "ü".encode()], dtype=object), "BYTES")])
            )
        assert fields[4:6] == ["['a', 'ü']", "['a', 'ü']"]

    def test_grpc_keeps_bytes_raw(self, server: Running) -> None:
        with grpc_client(server) as client:
            values = np.array([b"a", b"\xff"], dtype=object)
            fields = self.fields(client.infer("fields", [grpc_tensor(values, "BYTES")], parameters={"p": "q"}))
        assert fields[2:6] == ["True", 'string_param: "q"', "[]", r"[b'a', b'\xff']"]

    def test_what_is_not_json_comes_as_it_is(self, server: Running) -> None:
        answer = ask(server, "/v1/models/raw:predict", b"\x89PNG", content_type="image/png")
        assert answer.json == {"bytes": 4, "type": "image/png"}


class TestAnswers:
    @pytest.mark.parametrize(
        ("form", "body"),
        [
            ("list", b"[1,2]"),
            ("array", b"[0,1]"),
            ("text", b"plain"),
        ],
    )
    def test_v1_answers_are_sent_as_they_are(self, server: Running, form: str, body: bytes) -> None:
        assert ask(server, "/v1/models/forms:predict", {"form": form}).body == body

    def test_a_v2_answer_to_v1(self, server: Running) -> None:
        answer = ask(server, "/v1/models/forms:predict", {"form": "v2"}).json
        assert (answer["id"], answer["outputs"][0]["data"]) == ("own", [1, 2, 3, 4])

    @pytest.mark.parametrize("form", ["dict", "contents", "message", "response"])
    def test_each_form_of_a_v2_answer(self, server: Running, form: str) -> None:
        tensor = np.array([form.encode()], dtype=object)
        with triton_http.InferenceServerClient(server.http) as client:
            answer = client.infer("forms", [http_tensor(tensor, "BYTES")])
            assert (answer.as_numpy("y").tolist(), answer.get_response()["id"]) == ([[1, 2], [3, 4]], "own")
        with grpc_client(server) as client:
            answer = client.infer("forms", [grpc_tensor(tensor, "BYTES")])
            assert (answer.as_numpy("y").tolist(), answer.get_response().id) == ([[1, 2], [3, 4]], "own")

    def test_an_array_alone_is_the_output(self, server: Running) -> None:
        with triton_http.InferenceServerClient(server.http) as client:
            answer = client.infer("forms", [http_tensor(np.array([b"array"], dtype=object), "BYTES")])
        assert answer.as_numpy("output-0").tolist() == [[1, 2], [3, 4]]

    def test_half_floats_travel_in_binary(self, server: Running) -> None:
        with triton_http.InferenceServerClient(server.http) as client:
            tensor = http_tensor(np.array([b"half"], dtype=object), "BYTES")
            wanted = [triton_http.InferRequestedOutput("y", binary_data=True)]
            assert client.infer("forms", [tensor], outputs=wanted).as_numpy("y").tolist() == [[1, 2], [3, 4]]

    def test_an_answer_that_does_not_add_up_is_the_models_failure(self, server: Running) -> None:
        tensor = {"name": "x", "shape": [1], "datatype": "BYTES", "data": ["broken"]}
        answer = ask(server, "/v2/models/forms/infer", {"inputs": [tensor]})
        assert answer.status == 500
        assert "output 'y' is no INT32 of shape [2, 2]" in answer.json["error"]


@pytest.fixture(scope="module")
def kserve_itself(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The same script on KServe's own server."""
    log_path = tmp_path_factory.mktemp("kserve-itself") / "log"
    running = Running(f"127.0.0.1:{free_port()}", "", log_path)
    flags = ["--model_name=doubler", "--enable_grpc=false", f"--http_port={running.http.split(':')[1]}"]
    with log_path.open("wb") as log:
        process = subprocess.Popen([KSERVE_PYTHON, str(SCRIPTS / "models.py"), *flags], stdout=log, stderr=log)
    try:
        wait_for("KServe is ready", lambda: process.poll() is not None or is_kserve(running), timeout_s=90)
        assert process.poll() is None, log_path.read_text()
        yield running
    finally:
        process.kill()
        process.wait(60)


def is_kserve(running: Running) -> bool:
    with contextlib.suppress(OSError):
        return bool(ask(running, "/v2").json["name"] == "kserve")
    return False


def v2(data: list[Any], shape: list[int], datatype: str, **more: Any) -> dict[str, Any]:
    return {"id": "7", "inputs": [{"name": "x", "shape": shape, "datatype": datatype, "data": data}], **more}


ALIKE = [
    *(("/v1/models/doubler:predict", {"instances": rows}) for rows in (ROWS, [], "text", [{"a": 1, "b": 2}])),
    *(
        ("/v1/models/async:predict", body)
        for body in ({"inputs": ROWS}, {"instances": ROWS, "more": 1}, {}, b"{no json")
    ),
    ("/v1/models/doubler:explain", {"instances": ROWS}),
    *(("/v2/models/doubler/infer", v2(data, [2, 2], "FP64")) for data in (ROWS, [1.0, 2.0, 3.0, 4.0])),
    ("/v2/models/async/infer", v2([1, 2, 3, 4], [2, 2], "INT32", outputs=[{"name": "output-0"}])),
    ("/v2/models/doubler/infer", v2(["a", "b"], [2], "BYTES", parameters={"content_type": "pd"})),
    ("/v2/models/doubler/infer", {"inputs": []}),
    *(
        ("/v1/models/raising:predict", {"instances": [kind]})
        for kind in ("invalid", "inference", "not-ready", "teapot")
    ),
    *(("/v1/models/raising:predict", {"instances": [kind]}) for kind in ("value", "missing", "unheard-of")),
    *(("/v1/models/forms:predict", {"form": form}) for form in ("list", "array", "text", "v2", "unheard-of")),
    *(("/v2/models/forms/infer", v2([form], [1], "BYTES")) for form in ("dict", "response")),
    ("/v1/models/whole:predict", {"instances": [1]}),
    ("/v1/models/none:predict", {"instances": [1]}),
    ("/v2/models/none/infer", v2([1], [1], "INT8")),
    *(
        (path, None)
        for path in ("/", "/v1/models/doubler", "/v1/models/none", "/v2/models/doubler/ready", "/v2/health/live")
    ),
    *((path, None) for path in ("/v2/health/ready", "/v2/models/none", "/none")),
]


@pytest.mark.parametrize(("path", "body"), ALIKE, ids=lambda value: str(value)[:60])
def test_kserve_itself_answers_the_same(server: Running, kserve_itself: Running, path: str, body: Any) -> None:
    found, expected = ask(server, path, body), ask(kserve_itself, path, body)
    assert (found.status, meant(found)) == (expected.status, meant(expected))
    own = ("content-type", "x-pot", "x-whole", "x-caller", "x-postprocessed")
    if "content-type" not in expected.headers:  # KServe sends none with a text; a browser then guesses.
        expected.headers["content-type"] = "text/plain; charset=utf-8"
    assert {name: found.headers.get(name) for name in own} == {name: expected.headers.get(name) for name in own}


def meant(answer: Answer) -> Any:
    """What the body says; fields that are null are as good as absent."""
    try:
        body = answer.json
    except ValueError:
        return answer.body
    return without_nulls(body)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


USELESS = {
    "import kserve\nkserve.ModelServer().start([1])": "start takes a list of kserve.Model objects, got ['int']",
    "import kserve": "ended without a call of kserve.ModelServer().start",
    "import kserve\nclass Lazy(kserve.Model):\n    def load(self): pass\nkserve.ModelServer().start([Lazy('lazy')])": (
        "Lazy.load returned, and self.ready is False"
    ),
    "1 / 0": "ZeroDivisionError: division by zero",
}


ONE_BY_ONE = """
import os, sys
from pathlib import Path
from ladle.kserve_compat.script import run_script

for script in map(Path, sys.argv[1:]):
    os.environ["LADLE_TERMINATION_LOG"] = str(script.with_suffix(".words"))
    sys.stdout.write(f"{run_script(script, [])} ")
"""


def test_scripts_that_serve_nothing_say_why(tmp_path: Path) -> None:
    """All in one process, which imports kserve for seconds."""
    scripts = [tmp_path / f"script-{number}.py" for number in range(len(USELESS))]
    for script, text in zip(scripts, USELESS, strict=True):
        script.write_text(text)
    command = [KSERVE_PYTHON, "-c", ONE_BY_ONE, *map(str, scripts)]
    ended = subprocess.run(command, env=environment(LADLE_HTTP_PORT="0"), capture_output=True, text=True, timeout=90)
    assert ended.stdout.split() == ["1"] * len(USELESS), ended
    said = [script.with_suffix(".words").read_text() for script in scripts]
    for words, expected in zip(said, USELESS.values(), strict=True):
        assert expected in words
