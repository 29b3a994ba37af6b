"""`python -m runtimes.pyserver`: serves a user's own model class, or a script written for KServe.

--model_name NAME --model_dir DIR [--model_class MODULE:CLASS]   the class in DIR/model.py, or the one that is named
--kserve SCRIPT [ITS FLAGS]                                      a script that calls kserve.ModelServer().start
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ladle.errors import UserError
from ladle.kserve_compat.script import kserve_package, run_script
from ladle.server.model import Model
from ladle.server.options import ServerOptions
from ladle.server.runtime import run_runtime
from ladle.server.threads import limit_native_threads
from runtimes.pyserver.model import PythonModel, Source, folders_of_models, plan_sources

_SCRIPT_FLAG = "--kserve"


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM; 1 where nothing can be served, with the reason in the termination log."""
    script = split_script(argv)
    if script is not None:
        limit_native_threads(os.environ)
        return run_script(*script)
    return run_runtime(argv, lambda options, _: build_models(options, argv))


def split_script(argv: Sequence[str]) -> tuple[Path, list[str]] | None:
    """The script that --kserve names and the flags around it, which are the script's; None where there is no such flag."""
    for index, word in enumerate(argv):
        flag, joined, path = word.partition("=")
        if flag == _SCRIPT_FLAG:
            after = list(argv[index + 1 :])
            if not joined:
                path = after.pop(0) if after else ""
            return Path(path), [*argv[:index], *after]
    return None


def build_models(options: ServerOptions, argv: Sequence[str]) -> list[Model]:
    """The models in the directory: its own model.py, or one in each of its folders; nothing is imported yet."""
    flags = _flags(argv)
    if flags.model_class and not all(flags.model_class.partition(":")):
        raise UserError(f"--model_class = {flags.model_class!r}, must be MODULE:CLASS, such as mymodels.iris:Iris")
    arguments: Mapping[str, object] = {"predictor_host": flags.predictor_host, "protocol": flags.predictor_protocol}
    if flags.predictor_host:
        kserve_package().ModelServer()  # Sets what its models know of their predictor, from the same command line.
    source = Source(options.model_name, options.model_directory, flags.model_class, arguments)
    return [PythonModel(one) for one in plan_sources(source, folders_of_models(options.model_directory))]


def _flags(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--model_class", "--model-class", default="")
    parser.add_argument("--predictor_host", "--predictor-host", default=None)
    parser.add_argument("--predictor_protocol", "--predictor-protocol", default="v1")
    return parser.parse_known_args(argv)[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
