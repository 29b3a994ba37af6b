"""What a template imports before it forks XGBoost servers."""

import importlib

for module in ("runtimes.xgbserver.__main__", "uvloop", "prometheus_client.core", "xgboost"):
    importlib.import_module(module)
