"""`python -m runtimes.pytorchserver --model_name NAME --model_dir DIR [--model_class_name CLASS] [--nthread N]`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial

from ladle.errors import BadModel
from ladle.server.model import Model
from ladle.server.options import ServerOptions
from ladle.server.runtime import run_runtime
from runtimes.pytorchserver.settings import TorchFlags, TorchSettings


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM; 1 where the model cannot be loaded, with the reason in the termination log."""
    return run_runtime(argv, partial(build_model, TorchFlags.parse(argv)))


def build_model(flags: TorchFlags, options: ServerOptions, env: Mapping[str, str]) -> Model:
    """The model that the flags and the environment describe; BadModel where there is no PyTorch."""
    settings = TorchSettings.from_environment(env, flags=flags)
    try:
        from runtimes.pytorchserver.model import TorchModel
    except ImportError as error:
        raise BadModel(
            f"the PyTorch runtime needs {error.name}, which is not installed here: pip install 'ladle[pytorch]'"
        ) from error
    return TorchModel(options.model_name, options.model_directory, settings=settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
