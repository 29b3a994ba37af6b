"""A script written for KServe, run unchanged: its `kserve.ModelServer().start(models)` starts this server instead.

The script gets its own command line, which kserve parses when it is imported; ours is the same flags, and what the node
says in the environment wins.
"""

from __future__ import annotations

import dataclasses
import os
import runpy
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ladle.errors import BadModel, UserError
from ladle.kserve_compat.model import KserveModel
from ladle.log import get_logger
from ladle.server.model_server import serve
from ladle.server.options import HTTP_PORT, ServerOptions
from ladle.server.termination import write_last_words

log = get_logger(__name__)


def run_script(path: Path, argv: Sequence[str]) -> int:
    """Runs `path` as `python PATH ARGV` would; its exit code, and 1, with the reason said, where it served nothing."""
    started = False

    def start(server: Any, models: Sequence[Any]) -> None:
        nonlocal started
        started = True
        start_models(server, models)

    try:
        if not path.is_file():
            raise BadModel(f"{path} does not exist: --kserve takes the script that calls kserve.ModelServer().start")
        sys.argv = [str(path), *argv]
        sys.path.insert(0, str(path.resolve().parent))
        kserve_package().ModelServer.start = start
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except UserError as error:
        write_last_words(str(error))
        return 1
    except Exception as error:  # noqa: BLE001  # The user's code may raise anything, and it is why nothing is served.
        traceback.print_exc()
        write_last_words(f"{path.name} failed: {type(error).__name__}: {error}")
        return 1
    if not started:
        write_last_words(f"{path.name} ended without a call of kserve.ModelServer().start(models): nothing was served")
        return 1
    return 0


def kserve_package() -> Any:
    """The kserve package; BadModel where it is not installed."""
    try:
        return import_module("kserve")
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "kserve":
            raise
        raise BadModel(
            "a kserve.Model needs the kserve package in the server's environment: pip install kserve"
        ) from None


def start_models(server: Any, models: Sequence[Any]) -> None:
    """What stands in for ModelServer.start: serves until SIGTERM, and returns as KServe's does; SystemExit where it fails."""
    options = options_of(server, sys.argv[1:], os.environ)
    code = serve(*plan_models(server.registered_models.get_models(), models), options=options)
    if code:
        raise SystemExit(code)


def options_of(server: Any, argv: Sequence[str], env: Mapping[str, str]) -> ServerOptions:
    """The command line's and the environment's options, with what the script told its ModelServer."""
    options = ServerOptions.parse(argv, env)
    if max(options.workers, server.workers) > 1:
        # KServe's controller asks for as many as containerConcurrency says. Forking a process in which a user's model is
        # loaded would leave the threads of its libraries behind.
        log.warning("one process serves: a script has loaded its models already", workers=server.workers)
        options = dataclasses.replace(options, workers=1)
    if "LADLE_HTTP_PORT" in env:  # The node chose the ports.
        return options if server.enable_grpc else dataclasses.replace(options, grpc_port=None)
    grpc_port = server.grpc_port if server.enable_grpc else None
    # KServe's default says nothing; Knative's PORT may say more.
    http_port = options.http_port if server.http_port == HTTP_PORT else server.http_port
    return dataclasses.replace(options, http_port=http_port, grpc_port=grpc_port)


def plan_models(registered: Mapping[str, Any], started: Sequence[Any]) -> list[KserveModel]:
    """The models to serve: those that were registered, under their names, and those that `start` was given."""
    base = import_module("kserve.model").InferenceModel
    if not isinstance(started, list | tuple) or not all(isinstance(model, base) for model in started):
        kinds = (
            [type(model).__name__ for model in started] if isinstance(started, list | tuple) else type(started).__name__
        )
        raise BadModel(f"kserve.ModelServer().start takes a list of kserve.Model objects, got {kinds}")
    by_name = {**registered, **{model.name: model for model in started}}
    if not by_name:
        raise BadModel("kserve.ModelServer().start was given no model")
    nameless = [type(model).__name__ for name, model in by_name.items() if not name]
    if nameless:
        raise BadModel(f"{', '.join(nameless)}: a model needs a name, self.name is empty")
    return [KserveModel(model, name) for name, model in by_name.items()]
