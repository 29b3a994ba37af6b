"""`python -m runtimes.sklearnserver --model_name NAME --model_dir DIR`: serves a scikit-learn model."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

from ladle.errors import UserError
from ladle.server.model_server import serve
from ladle.server.options import ServerOptions
from ladle.server.queue_settings import flag
from ladle.server.termination import write_last_words
from ladle.server.threads import limit_native_threads
from runtimes.sklearnserver.model import SklearnModel


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM; 1 where the model cannot be loaded, with the reason in the termination log."""
    env = os.environ
    try:
        options = ServerOptions.parse(argv, env)
    except UserError as error:
        write_last_words(str(error))
        return 1
    limit_native_threads(env)
    # A model that was trained on a table and is asked with a list: true, known, and once for every request.
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    model = SklearnModel(
        options.model_name,
        options.model_directory,
        probabilities=flag(env, "PREDICT_PROBA", default=False),
        allow_pickle=flag(env, "LADLE_ALLOW_PICKLE", default=True),
    )
    return serve(model, options=options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
