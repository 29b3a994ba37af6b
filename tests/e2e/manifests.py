"""InferenceServices as users write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INSTANCES = {"instances": [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]}
V2_REQUEST = {
    "inputs": [{"name": "input-0", "shape": [2, 4], "datatype": "FP64", "data": INSTANCES["instances"]}],
}


def isvc(
    name: str,
    storage_uri: str,
    *,
    annotations: Mapping[str, str] | None = None,
    model_format: str = "sklearn",
    **predictor: Any,
) -> dict[str, Any]:
    """KServe's iris manifest with another name and storage URI, and further fields of the predictor."""
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": "default", "annotations": dict(annotations or {})},
        "spec": {
            "predictor": {"model": {"modelFormat": {"name": model_format}, "storageUri": storage_uri}, **predictor}
        },
    }
