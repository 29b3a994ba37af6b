"""What a template imports before it forks ONNX servers."""

import importlib

for module in ("runtimes.onnxserver.__main__", "uvloop", "prometheus_client.core", "onnxruntime"):
    importlib.import_module(module)
