"""What a template imports before it forks scikit-learn servers: a model's file names its classes only when it is read.

Every module here is one that models are commonly made of; together they cost two seconds once, and 140 MB that all
children share.
"""

import contextlib
import importlib
import io
import os

MODULES = (
    "runtimes.sklearnserver.__main__",
    "uvloop",
    "joblib",
    "prometheus_client.core",
    "sklearn.cluster",
    "sklearn.compose",
    "sklearn.decomposition",
    "sklearn.discriminant_analysis",
    "sklearn.ensemble",
    "sklearn.feature_extraction.text",
    "sklearn.feature_selection",
    "sklearn.impute",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "sklearn.multiclass",
    "sklearn.naive_bayes",
    "sklearn.neighbors",
    "sklearn.neural_network",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "sklearn.svm",
    "sklearn.tree",
)
OPTIONAL_MODULES = ("pandas", "threadpoolctl")
"""For tables and thread limits: absent in a small environment. onnxruntime comes with runtimes.onnxserver.preload."""

# OpenBLAS starts a thread for each core when it is imported, and a template must have none. A child that is told
# OMP_NUM_THREADS sets it then.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
for module in MODULES:
    importlib.import_module(module)
for module in OPTIONAL_MODULES:
    with contextlib.suppress(ImportError):
        importlib.import_module(module)

from ladle.server.threads import find_native_libraries  # noqa: E402  # After the libraries that it finds.


def rehearse() -> None:
    """One prediction of a model that was saved and read: what scikit-learn does at its first only is done for all children.

    It takes 7 ms of each child's 10 (measured 2026-11-21): the metadata of every installed package are read. Naive Bayes, since
    it needs no threads.
    """
    import joblib
    import numpy as np
    from sklearn.naive_bayes import GaussianNB

    saved = io.BytesIO()
    joblib.dump(GaussianNB().fit(np.array([[0.0], [1.0]]), np.array([0, 1])), saved)
    saved.seek(0)
    joblib.load(saved).predict(np.zeros((1, 1)))


find_native_libraries()
rehearse()
