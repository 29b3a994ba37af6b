"""Knative's annotation keys, ports, and the names of a revision's children, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from controller.base.names import child_name

FIELD_MANAGER = "ladle-knative"
"""Under which the reconcilers write; the autoscaler, which has its own field, has its own."""
AUTOSCALING_PREFIX = "autoscaling.knative.dev"

CREATOR_ANNOTATION = "serving.knative.dev/creator"
MODIFIER_ANNOTATION = "serving.knative.dev/lastModifier"
ROUTES_ANNOTATION = "serving.knative.dev/routes"
ROUTING_STATE_MODIFIED_ANNOTATION = "serving.knative.dev/routingStateModified"
LAST_PINNED_ANNOTATION = "serving.knative.dev/lastPinned"
NO_GC_ANNOTATION = "serving.knative.dev/no-gc"
CLASS_ANNOTATION = "autoscaling.knative.dev/class"
METRIC_ANNOTATION = "autoscaling.knative.dev/metric"
FULL_DUPLEX_ANNOTATION = "features.knative.dev/http-full-duplex"
DEFAULT_CONTAINER_ANNOTATION = "kubectl.kubernetes.io/default-container"
INGRESS_CLASS_ANNOTATION = "networking.knative.dev/ingress.class"
ROLLOUT_ANNOTATION = "networking.internal.knative.dev/rollout"
TAG_TO_HOST_ANNOTATION = "networking.internal.knative.dev/tag-to-host"

APP_LABEL = "app"
DEPLOYMENT_HASH_LABEL = "serving.knative.dev/deployment-hash"
SERVERLESS_SERVICE_LABEL = "networking.internal.knative.dev/serverlessservice"
SERVICE_TYPE_LABEL = "networking.internal.knative.dev/serviceType"
INGRESS_LABEL = "networking.internal.knative.dev/ingress"

USER_PORT = 8080
"""Where a container listens that names no port."""
QUEUE_HTTP_PORT, QUEUE_HTTP2_PORT, QUEUE_HTTPS_PORT = 8012, 8013, 8112
QUEUE_ADMIN_PORT, QUEUE_STATS_PORT, QUEUE_METRICS_PORT = 8022, 9090, 9091
PROFILING_PORT = 8008
QUEUE_CONTAINER = "queue-proxy"
H2C_PORT_NAME = "h2c"


class AnnotationKey(NamedTuple):
    """An annotation and the older spelling that Knative still reads."""

    name: str
    old_name: str = ""

    def find(self, annotations: Mapping[str, str]) -> tuple[str, str | None]:
        """The key that is set and its value; the current key and None where neither is."""
        for key in (self.name, self.old_name):
            if key and key in annotations:
                return key, annotations[key]
        return self.name, None

    def value(self, annotations: Mapping[str, str]) -> str | None:
        return self.find(annotations)[1]


ROLLOUT_DURATION = AnnotationKey("serving.knative.dev/rollout-duration", "serving.knative.dev/rolloutDuration")
PROGRESS_DEADLINE = AnnotationKey("serving.knative.dev/progress-deadline")
INITIAL_SCALE = AnnotationKey("autoscaling.knative.dev/initial-scale", "autoscaling.knative.dev/initialScale")
MIN_SCALE = AnnotationKey("autoscaling.knative.dev/min-scale", "autoscaling.knative.dev/minScale")
MAX_SCALE = AnnotationKey("autoscaling.knative.dev/max-scale", "autoscaling.knative.dev/maxScale")


def deployment_name(revision: str) -> str:
    return child_name(revision, "-deployment")


def private_service_name(revision: str) -> str:
    return child_name(revision, "-private")


def virtual_service_name(route: str) -> str:
    return child_name(route, "-ingress")
