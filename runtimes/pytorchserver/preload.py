"""What a template imports before it forks PyTorch servers: 3 s and 320 MB once, for all of them.

What is computed here is computed in one thread: otherwise a matrix product in the template starts OpenMP's threads, and every
child's first one would wait for them for ever.
"""

import contextlib
import importlib
import io
import os
import warnings

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


def rehearse() -> None:
    """One call of a TorchScript archive that was saved and read: what PyTorch prepares at its first is there for all children.

    A child's first call takes 0.8 ms of the processor then instead of 30, and its first archive 2 instead of 10 (measured
    2026-11-21). A child says itself how many threads it takes.
    """
    import torch

    torch.set_num_threads(1)
    module, rows, saved = torch.nn.Linear(1, 1).eval(), torch.zeros(1, 1), io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore", DeprecationWarning)  # In favour of torch.export; what is saved is TorchScript.
        torch.jit.save(torch.jit.trace(module, rows), saved)
        saved.seek(0)
        torch.jit.load(saved)(rows)


rehearse()
