"""What a template imports before it forks PyTorch servers: 3 s and 320 MB once, for all of them.

Nothing is computed here: one matrix product in the template starts OpenMP's threads, and every child's first one would wait
for them for ever.
"""

import contextlib
import importlib
import os

MODULES = (
    "runtimes.pytorchserver.__main__",
    "runtimes.pytorchserver.model",
    "uvloop",
    "prometheus_client.core",
    "torch.export",
)
LAZY_MODULES = (
    "torch.export.passes",
    "torch.export.pt2_archive._package",
    "torch.export._trace",
    "torch._inductor.output_code",
    "torch._export.db.logging",
)
"""What reading an archive of torch.export imports first, 1.5 s of it. PyTorch's own: another version may lack some."""

# OpenBLAS starts a thread for each core when it is imported, and a template must have none.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
for module in MODULES:
    importlib.import_module(module)
for module in LAZY_MODULES:
    with contextlib.suppress(ImportError):
        importlib.import_module(module)
