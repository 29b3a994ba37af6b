"""Names of children, labels and annotations, in one place; the words are KServe's, Knative's and Kubernetes' own.

`child_name` follows knative/pkg kmeta.ChildName (spec/knative.md 1.1 of the project's reference).
"""

from __future__ import annotations

import hashlib

NAME_LENGTH_MAX = 63
"""Longest DNS-1123 label (RFC 1123), hence longest name of a child."""
_MD5_LENGTH = 32

# KServe: labels and annotations of an InferenceService and of what is made from it.
ISVC_LABEL = "serving.kserve.io/inferenceservice"
COMPONENT_LABEL = "component"
ISVC_FINALIZER = "inferenceservice.finalizers"

# Knative Serving.
KSVC_LABEL = "serving.knative.dev/service"
KSVC_UID_LABEL = "serving.knative.dev/serviceUID"
CONFIGURATION_LABEL = "serving.knative.dev/configuration"
CONFIGURATION_UID_LABEL = "serving.knative.dev/configurationUID"
CONFIGURATION_GENERATION_LABEL = "serving.knative.dev/configurationGeneration"
REVISION_LABEL = "serving.knative.dev/revision"
REVISION_UID_LABEL = "serving.knative.dev/revisionUID"
ROUTE_LABEL = "serving.knative.dev/route"
ROUTING_STATE_LABEL = "serving.knative.dev/routingState"
VISIBILITY_LABEL = "networking.knative.dev/visibility"
REVISION_HEADER = "Knative-Serving-Revision"
NAMESPACE_HEADER = "Knative-Serving-Namespace"

LAST_APPLIED_ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"


def child_name(parent: str, suffix: str) -> str:
    """`parent + suffix`, shortened with an MD5 of the parent where it would exceed 63 characters.

    >>> child_name("sklearn-iris-predictor", "-00001")
    'sklearn-iris-predictor-00001'
    """
    if len(parent) + len(suffix) <= NAME_LENGTH_MAX:
        return parent + suffix
    head_length_max = NAME_LENGTH_MAX - _MD5_LENGTH  # 31
    if len(suffix) < head_length_max:
        return parent[: head_length_max - len(suffix)] + _md5(parent) + suffix
    head = parent[:head_length_max] + _md5(parent + suffix)
    return _trim(head + suffix[: NAME_LENGTH_MAX - len(head)])


def _trim(name: str) -> str:
    while name and not name[-1].isalnum():
        name = name[:-1]
    return name


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
