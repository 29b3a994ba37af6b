"""What controllers apply and what the API server stores of it must be no difference: else a quiet world would be written to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.base.errors import UserError
from controller.inferenceservice.offline import render
from controller.kube.resources import resource_type_of
from controller.reconcile.diff import differs
from tests.onebox_api import ApiProcess

SHARED = Path(__file__).parents[3] / "../shared"
pytestmark = pytest.mark.skipif(not SHARED.exists(), reason="the reference manifests are not on this machine")


def children() -> Iterator[tuple[str, dict[str, Any]]]:
    cluster = list(yaml.safe_load_all((SHARED / "golden/kserve/cluster.yaml").read_text()))
    for file in sorted((SHARED / "fixtures/kserve").glob("*.yaml")):
        manifests = [document for document in yaml.safe_load_all(file.read_text()) if document]
        services = [document for document in manifests if document["kind"] == "InferenceService"]
        try:
            rendered = render(services, existing=cluster)
        except UserError:  # Recorded as refused; tests of the reconciler look at those.
            continue
        for child in rendered:
            if child["kind"] != "InferenceService":
                yield file.name, child


async def test_applied_children_are_no_difference_and_a_second_apply_writes_nothing(api: ApiProcess) -> None:
    checked = 0
    for number, (file, child) in enumerate(children()):
        resource = resource_type_of(child["apiVersion"], child["kind"])
        meta = {**child["metadata"], "name": f"x{number}", "namespace": "default"}
        meta.pop("ownerReferences", None)
        wanted = {**child, "metadata": meta}
        stored = await api.client.apply(resource, wanted, field_manager="ladle")
        assert not differs(wanted, stored, field_manager="ladle"), (file, child["kind"])
        again = await api.client.apply(resource, wanted, field_manager="ladle")
        assert again["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"], (file, child["kind"])
        checked += 1
    assert checked > 50
