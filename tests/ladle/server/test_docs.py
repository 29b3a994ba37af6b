"""The docs page: off by default, complete offline, and a document that tells the truth.

What is true is found out: requests made from the document go to a real server, and every answer is held against it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ladle.server.docs.document import build_document
from ladle.server.options import ServerOptions
from tests.ladle.server.background import Background
from tests.ladle.server.models import EchoModel, SumModel
from tests.ladle.server.serving import served
from tests.ladle.server.test_imports import imported
from tests.ladle.server.wire import ask

EXAMPLES = 8
"""Random ones for each operation, beside schemathesis' own list of edges. Short enough for every run."""


class Loaded(HTMLParser):
    """Collects what a page loads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]


async def test_they_are_off_by_default_as_kserves_are() -> None:
    assert not ServerOptions.parse([], {}).docs
    assert ServerOptions.parse(["--enable_docs_url", "true"], {}).docs
    async with served(SumModel("sum")) as app:
        assert (await app.get("/docs")).status == 404
        assert (await app.get("/openapi.json")).status == 404


async def test_the_page_and_all_that_it_loads_come_from_this_server() -> None:
    async with served(SumModel("sum"), docs=True) as app:
        page = await app.get("/docs")
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert not re.findall(r"https?://", page.text), "nothing from elsewhere"
        addresses = Loaded(page.text).addresses
        assert len(addresses) >= 3, "script, style, icon"
        for address in addresses:
            loaded = await app.get(address)
            assert (loaded.status, len(loaded.body) > 100) == (200, True), address
        script = next(address for address in addresses if address.endswith(".js"))
        assert b"SwaggerUIBundle" in (await app.get(script)).body
        (document,) = re.findall(r"url: '([^']+)'", page.text)
        assert json.loads((await app.get(document)).body)["openapi"] == "3.0.3"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/docs", 405),
        ("GET", "/docs/assets/none.js", 404),
        ("GET", "/docs/assets/../../../../etc/passwd", 404),
        ("GET", "/docs/assets/%2e%2e/%2e%2e/__init__.py", 404),
        ("HEAD", "/openapi.json", 200),
        ("GET", "/documents", 404),
    ],
)
async def test_other_paths(method: str, path: str, status: int) -> None:
    async with served(SumModel("sum"), docs=True) as app:
        assert (await ask(app.port, method, path)).status == status


def test_who_does_not_look_at_it_does_not_pay_for_it() -> None:
    assert not imported("import ladle.server.docs.pages") & {"fastapi", "starlette", "pydantic", "anyio"}


async def test_where_its_packages_are_missing_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ladle.server.docs.app", raising=False)
    monkeypatch.setitem(sys.modules, "swagger_ui_bundle", None)
    async with served(SumModel("sum"), docs=True) as app:
        answer = await app.get("/docs")
    assert answer.status == 501
    assert "install ladle[docs]" in answer.text


def document() -> dict[str, Any]:
    """Ours, with names of models that exist, and one that does not."""
    text = json.dumps(build_document("1"))
    known = json.loads(text)
    for operations in known["paths"].values():
        for parameter in operations.get("parameters", []):
            if parameter["name"] == "model":
                parameter["schema"] = {"type": "string", "enum": ["echo", "none"]}
            else:
                parameter["schema"] = {"type": "string", "enum": ["1"]}
    return known


schema = schemathesis.openapi.from_dict(document())


@pytest.fixture(scope="module")
def server() -> Iterator[Background]:
    with Background(EchoModel("echo")) as running:
        yield running


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_the_document_says(case: schemathesis.Case, server: Background) -> None:
    response = case.call(base_url=f"http://127.0.0.1:{server.port}", timeout=30)
    case.validate_response(
        response, checks=[status_code_conformance, content_type_conformance, response_schema_conformance]
    )
    unavailable = response.status_code == 503 and "not ready" in response.text  # Another example unloaded it.
    assert response.status_code < 500 or response.status_code == 501 or unavailable, response.text
