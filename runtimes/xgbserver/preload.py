"""What a template imports before it forks XGBoost servers."""

import importlib
import os

# OpenBLAS and OpenMP start threads for all cores, the first when it is imported, and a template must have none. A child
# that is told OMP_NUM_THREADS sets it then.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
for module in ("runtimes.xgbserver.__main__", "uvloop", "prometheus_client.core", "pandas", "xgboost"):
    importlib.import_module(module)

from ladle.server.threads import find_native_libraries  # noqa: E402  # After the libraries that it finds.

find_native_libraries()
