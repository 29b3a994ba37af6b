"""What the `main` of every runtime does: options in, models, serve, exit code out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from ladle.errors import UserError
from ladle.server.model import Model
from ladle.server.model_folders import ModelFolders
from ladle.server.model_server import serve
from ladle.server.options import ServerOptions
from ladle.server.termination import write_last_words
from ladle.server.threads import limit_native_threads

BuildModel: TypeAlias = Callable[[ServerOptions, Mapping[str, str]], Model | Sequence[Model] | ModelFolders]
"""Makes the model, or the models, that the options and the environment describe; loads nothing yet."""


def run_runtime(argv: Sequence[str], build: BuildModel) -> int:
    """Serves until SIGTERM; 1 where the options or the model are no good, with the reason in the termination log."""
    env = os.environ
    try:
        options = ServerOptions.parse(argv, env)
        built = build(options, env)
    except UserError as error:
        write_last_words(str(error))
        return 1
    limit_native_threads(env)
    if isinstance(built, ModelFolders):
        return serve(*map(built.open, built.names()), options=options, folders=built)
    models = [built] if isinstance(built, Model) else built
    for model in models:
        model.directory = model.directory or options.model_directory
    return serve(*models, options=options)
