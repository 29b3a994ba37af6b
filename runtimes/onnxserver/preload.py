"""What a template imports before it forks ONNX servers, and scikit-learn's, which run busy models as graphs."""

import importlib

from runtimes.onnx_runtime import import_onnxruntime

for module in ("runtimes.onnxserver.__main__", "uvloop", "prometheus_client.core"):
    importlib.import_module(module)
import_onnxruntime()
