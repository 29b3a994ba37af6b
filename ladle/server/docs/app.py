"""The FastAPI application of the docs page: imported with the first request for it, not before.

FastAPI and what it needs take half a second and 40 MB, which a model server must not pay for a page that nobody looks at.
Everything that the page loads comes from this server: no CDN.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from swagger_ui_bundle import swagger_ui_path

ASSETS = "/docs/assets"


def docs_application(document: dict[str, Any]) -> FastAPI:
    """Serves the page at /docs, its scripts below it, and the document at /openapi.json."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/openapi.json")
    def openapi() -> dict[str, Any]:
        return document

    @app.get("/docs", response_class=HTMLResponse)
    def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=f"{document['info']['title']} {document['info']['version']}",
            swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{ASSETS}/favicon-32x32.png",
        )

    app.mount(ASSETS, StaticFiles(directory=Path(swagger_ui_path)))
    return app
