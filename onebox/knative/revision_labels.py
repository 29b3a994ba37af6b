"""The labels that Knative's metrics carry for a revision."""

from __future__ import annotations

from controller.base.exposition import render_labels
from controller.base.json import JsonView
from controller.base.names import CONFIGURATION_LABEL, KSVC_LABEL


def revision_labels(revision: JsonView) -> str:
    """Namespace, service, configuration and name of a Revision, rendered; empty where it has no owner of a kind."""
    metadata = revision["metadata"]
    marks = metadata.get("labels") or {}
    return render_labels(
        namespace_name=metadata.get("namespace", ""),
        service_name=marks.get(KSVC_LABEL, ""),
        configuration_name=marks.get(CONFIGURATION_LABEL, ""),
        revision_name=metadata["name"],
    )
