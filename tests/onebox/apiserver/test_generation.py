"""metadata.generation counts what users want, not how often they say it."""

from __future__ import annotations

from typing import Any

from controller.kube.resources import KNATIVE_SERVICES
from controller.reconcile.diff import differs
from tests.onebox_api import ApiProcess


def knative_service(image: str = "example.com/model") -> dict[str, Any]:
    container = {"name": "user", "image": image}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }


async def test_applying_the_same_twice_is_no_new_generation_although_admission_fills_in_defaults(
    api: ApiProcess,
) -> None:
    first = await api.client.apply(KNATIVE_SERVICES, knative_service(), field_manager="m")
    again = await api.client.apply(KNATIVE_SERVICES, knative_service(), field_manager="m")
    assert again["metadata"]["generation"] == 1
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert not differs(knative_service(), again, field_manager="m")


async def test_another_image_is_a_new_generation(api: ApiProcess) -> None:
    await api.client.apply(KNATIVE_SERVICES, knative_service(), field_manager="m")
    changed = await api.client.apply(KNATIVE_SERVICES, knative_service("example.com/other"), field_manager="m")
    assert changed["metadata"]["generation"] == 2
