"""F20: revisions that nobody needs any more."""

from __future__ import annotations

import pytest

from tests.e2e.knative.serving import Serving, container, service, template
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long]

KEEP_NONE = {
    "min-non-active-revisions": "0",
    "max-non-active-revisions": "0",
    "retain-since-create-time": "disabled",
    "retain-since-last-active-time": "disabled",
}


def test_an_old_revision_goes_after_an_update(serving: Serving) -> None:
    with serving.configured("config-gc", KEEP_NONE):
        serving.run(service("collected", template(container("text"))))
        serving.run(service("collected", template(container("text", image="example.com/noodles:2"))))
        wait_for("only the new revision", lambda: serving.revisions("collected") == ["collected-00002"], timeout_s=60)
        wait_for("no pod of the old one", lambda: not serving.pods("collected-00001"))
        assert serving.ready("service", "collected")["status"]["latestReadyRevisionName"] == "collected-00002"
