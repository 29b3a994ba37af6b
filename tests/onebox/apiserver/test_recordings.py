"""Replays what a real kube-apiserver was asked, in order, and compares the answers."""

from __future__ import annotations

import json
import ssl
from typing import Any

import aiohttp
import pytest

from tests.onebox.apiserver.recordings import (
    KNOWN,
    NOT_SENT,
    RECORDINGS,
    REPAIRED,
    differences,
    in_any_order,
    load_recordings,
)
from tests.onebox_api import ApiProcess

pytestmark = pytest.mark.skipif(not RECORDINGS.exists(), reason="the reference recordings are not here")


class Replay:
    """Sends recorded requests as the recorder did, which stored the object of one answer for the next request."""

    def __init__(self, api: ApiProcess, session: aiohttp.ClientSession) -> None:
        self._api = api
        self._session = session
        self._token = next(
            token for token, user in json.loads((api.home.pki / "tokens.json").read_text()).items() if user == "admin"
        )
        self._metadata: dict[str, Any] = {}

    async def send(self, title: str, request: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        headers = {"Authorization": f"Bearer {self._token}", "User-Agent": "Python-urllib/3.11"}
        if request["accept"]:
            headers["Accept"] = request["accept"]
        if request["contentType"]:
            headers["Content-Type"] = request["contentType"]
        data = self._body(title, request)
        url = self._api.url + request["path"]
        async with self._session.request(request["method"], url, data=data, headers=headers) as answer:
            text = await answer.text()
            try:
                body = json.loads(text)
            except ValueError:
                body = text
            if title == "get":
                self._metadata = body["metadata"]
            return answer.status, dict(answer.headers), body

    def _body(self, title: str, request: dict[str, Any]) -> bytes | None:
        body = REPAIRED.get(title, request["body"])
        if title in ("put", "put with an old resourceVersion"):
            version = self._metadata["resourceVersion"] if title == "put" else "1"
            body = {**body, "metadata": {**self._metadata, "resourceVersion": version}}
        if body is None:
            return None
        return body.encode() if isinstance(body, str) else json.dumps(body).encode()


async def test_answers_are_those_of_a_real_api_server(api: ApiProcess) -> None:
    context = ssl.create_default_context(cafile=str(api.home.pki / "ca.crt"))
    failures: list[str] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        replay = Replay(api, session)
        for recording in load_recordings():
            title = recording["title"]
            if title in NOT_SENT:
                continue
            status, headers, body = await replay.send(title, recording["request"])
            found = _differences(title, recording["response"], status, headers, body)
            failures += [f"{title}: {difference}" for difference in found]
    assert failures == []


def _differences(title: str, wanted: dict[str, Any], status: int, headers: dict[str, str], body: Any) -> list[str]:
    found = []
    if status != wanted["status"]:
        found.append(f"status: wanted {wanted['status']}, found {status}: {body}")
    warning = wanted["headers"].get("Warning")
    if warning != headers.get("Warning"):
        found.append(f"warning: wanted {warning}, found {headers.get('Warning')}")
    known = KNOWN.get(title)
    paths = known.paths if known is not None else ()
    found += [
        difference
        for difference in differences(in_any_order(wanted["body"]), in_any_order(body))
        if not any(difference.startswith(path) for path in paths)
    ]
    return found


async def test_all_mistakes_in_an_object_are_told_at_once(api: ApiProcess) -> None:
    """The one recorded answer whose causes only partly apply: each of the schema's own errors must be among ours."""
    recordings = {recording["title"]: recording for recording in load_recordings()}
    context = ssl.create_default_context(cafile=str(api.home.pki / "ca.crt"))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        replay = Replay(api, session)
        for title in ("create namespace", "create a CRD"):
            await replay.send(title, recordings[title]["request"])
        title = "every kind of schema error at once"
        _, _, body = await replay.send(title, recordings[title]["request"])
    ours = {(cause["field"], cause["message"]) for cause in body["details"]["causes"]}
    theirs = {
        (cause["field"], cause["message"]) for cause in recordings[title]["response"]["body"]["details"]["causes"]
    }
    missing = {cause for cause in theirs - ours if cause[0] not in ("<nil>", ".spec.replicas")}
    assert missing == set()
    assert ours <= theirs
