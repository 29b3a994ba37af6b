"""What a template imports before it forks PyTorch servers: 1.5 s and 220 MB once, for all of them.

Nothing is computed here: one matrix product in the template starts OpenMP's threads, and every child's first one would wait
for them for ever.
"""

import importlib
import os

# OpenBLAS starts a thread for each core when it is imported, and a template must have none.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
for module in ("runtimes.pytorchserver.__main__", "uvloop", "prometheus_client.core", "torch.export"):
    importlib.import_module(module)
