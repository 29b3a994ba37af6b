"""hf:// against a small stand-in for the hub: which files, from which commit, with whose token."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator

import pytest

from ladle.errors import StorageUnavailable
from runtimes.storage.objects import Algorithm, Digest
from runtimes.storage.uri import AccessDenied, BadUri, NoSuchSource, parse_uri
from tests.runtimes.stores.hub import COMMIT, Hub, Model
from tests.runtimes.stores.sources import contents, transient

pytest.importorskip("huggingface_hub")

from runtimes.storage import hf

FILES = {"config.json": b'{"a": 1}', "onnx/model.onnx": bytes(range(256)) * 10, "empty.txt": b""}


@contextlib.contextmanager
def serving(model: Model) -> Iterator[Hub]:
    with Hub(model) as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.01,))
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def model() -> Model:
    return Model(files=dict(FILES), large=frozenset({"onnx/model.onnx"}))


@pytest.fixture
def hub(model: Model) -> Iterator[Hub]:
    """The hub, with a host of its own for large files."""
    with serving(Model(files=model.files)) as storage, serving(model) as hub:
        model.storage = storage.url
        yield hub


def source(hub: Hub, uri: str = "hf://owner/model", **env: str) -> hf.HubSource:
    return hf.open_source(parse_uri(uri), {"HF_ENDPOINT": hub.url, **env})


def test_all_files_of_a_model(hub: Hub) -> None:
    assert contents(source(hub)) == FILES


def test_files_are_read_from_the_commit_that_was_listed(hub: Hub, model: Model) -> None:
    contents(source(hub, "hf://owner/model:main"))
    read = [path for path, _ in model.seen if "/resolve/" in path]
    assert read
    assert all(path.startswith(f"/owner/model/resolve/{COMMIT}/") for path in read)


def test_digests_are_those_of_git_and_of_large_files(hub: Hub) -> None:
    with contextlib.closing(source(hub)) as opened:
        digests = {file.path: file.digest for file in opened.list()}
    blob = hashlib.sha1(b"blob 8\0" + FILES["config.json"]).hexdigest()
    assert digests["config.json"] == Digest(Algorithm.GIT_SHA1, blob)
    large = hashlib.sha256(FILES["onnx/model.onnx"]).hexdigest()
    assert digests["onnx/model.onnx"] == Digest(Algorithm.SHA256, large)


def test_a_range_of_a_large_file(hub: Hub) -> None:
    with contextlib.closing(source(hub)) as opened:
        file = next(file for file in opened.list() if file.path == "onnx/model.onnx")
        assert b"".join(opened.read(file, 100, 50)) == FILES["onnx/model.onnx"][100:150]


def test_a_token_is_sent_to_the_hub_and_to_nobody_else(model: Model) -> None:
    stored = Model(files=model.files)
    with serving(stored) as storage, serving(model) as hub:
        model.storage, model.token = storage.url, "hf_secret"
        assert contents(source(hub, HF_TOKEN="hf_secret")) == FILES
    assert stored.seen
    assert all("Authorization" not in headers for _, headers in stored.seen)


def test_a_private_model_without_a_token(hub: Hub, model: Model) -> None:
    model.token = "hf_secret"
    with pytest.raises(NoSuchSource, match=r"no model owner/model on http://.*private.*HF_TOKEN"):
        source(hub).list()


def test_a_gated_model_without_access(hub: Hub, model: Model) -> None:
    model.token, model.refusal = "hf_secret", (403, "GatedRepo")
    with pytest.raises(AccessDenied, match=r"owner/model is gated: accept its terms.*HF_TOKEN"):
        source(hub).list()


def test_a_token_that_the_hub_does_not_know(hub: Hub, model: Model) -> None:
    model.token, model.refusal = "hf_secret", (403, "")
    with pytest.raises(AccessDenied, match=r"refuses owner/model \(403\): check HF_TOKEN") as caught:
        source(hub, HF_TOKEN="hf_wrong").list()
    assert "hf_wrong" not in str(caught.value)


def test_a_model_that_is_not_there(hub: Hub) -> None:
    with pytest.raises(NoSuchSource, match="no model owner/other"):
        source(hub, "hf://owner/other").list()


def test_a_revision_that_is_not_there(hub: Hub) -> None:
    with pytest.raises(NoSuchSource, match="no branch, tag or commit v9"):
        source(hub, "hf://owner/model:v9").list()


def test_a_busy_hub_is_asked_again(hub: Hub, model: Model) -> None:
    model.failures = 1
    assert isinstance(transient(source(hub)), StorageUnavailable)
    assert contents(source(hub)) == FILES


def test_a_hub_that_does_not_answer() -> None:
    error = transient(hf.open_source(parse_uri("hf://owner/model"), {"HF_ENDPOINT": "http://127.0.0.1:1"}))
    assert "http://127.0.0.1:1" in str(error)
    assert "HF_ENDPOINT" in str(error)


@pytest.mark.parametrize("uri", ["hf://model", "hf://owner/", "hf:///model", "hf://owner/model/file", "hf://"])
def test_a_uri_names_owner_and_model(uri: str) -> None:
    with pytest.raises(BadUri, match="hf://OWNER/MODEL"):
        hf.open_source(parse_uri(uri), {})


def test_a_revision_may_hold_slashes() -> None:
    assert hf.parse_hub_place(parse_uri("hf://owner/model:refs/pr/1")) == hf.HubPlace("owner/model", "refs/pr/1")
