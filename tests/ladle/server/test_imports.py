"""What a pod pays for: the modules that a server imports before its first request."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    *("pydantic", "pandas", "fastapi", "starlette", "uvicorn", "kubernetes", "aiohttp", "structlog", "rich", "typer"),
    *("sklearn", "scipy", "torch", "onnxruntime", "xgboost", "lightgbm", "kserve", "grpc", "prometheus_client", "yaml"),
}


def imported(statement: str) -> set[str]:
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(found.stdout))


@pytest.mark.parametrize(
    "statement",
    ["import ladle.server.model_server", "from ladle import Model, serve", "import runtimes.sklearnserver.__main__"],
)
def test_a_server_imports_no_framework(statement: str) -> None:
    assert not imported(statement) & HEAVY


@pytest.mark.parametrize("statement", ["import ladle.server.queue_proxy", "import runtimes.queueproxy.__main__"])
def test_the_queue_proxy_needs_no_numpy(statement: str) -> None:
    assert not imported(statement) & {*HEAVY, "numpy"}


def test_the_library_itself_is_instant() -> None:
    modules = imported("import ladle")
    assert {name for name in modules if name.startswith("ladle")} == {"ladle"}


def test_every_export_exists_and_is_listed() -> None:
    import ladle

    assert sorted(ladle.__all__) == sorted(ladle._EXPORTS)
    assert all(getattr(ladle, name) is not None for name in ladle.__all__)
    assert set(ladle.__all__) <= set(dir(ladle))
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        ladle.nope  # noqa: B018
