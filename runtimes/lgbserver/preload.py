"""What a template imports before it forks LightGBM servers."""

import importlib

for module in ("runtimes.lgbserver.__main__", "uvloop", "prometheus_client.core", "lightgbm"):
    importlib.import_module(module)
