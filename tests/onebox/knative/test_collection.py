"""Which revisions are cleared away."""

from __future__ import annotations

import pytest

from controller.api.knative import Revision
from controller.base.clock import rfc3339
from controller.base.errors import UserError
from onebox.knative.configuration.collection import Collection, plan_collection
from onebox.knative.settings.collection import CollectionSettings, parse_collection
from tests.onebox.knative.building import NOW_S, configuration, revision, status

KEEP_NONE = CollectionSettings(kept_min=0, kept_max=None, retain_since_create_s=100.0, retain_since_active_s=50.0)


def aged(name: str, *, created_s: float, active_s: float | None = None, state: str = "reserve") -> Revision:
    """A revision that was made, and last in use, so many seconds ago."""
    found = revision(name, routingState=state)
    active = {} if active_s is None else {"serving.knative.dev/routingStateModified": rfc3339(NOW_S - active_s)}
    meta = found.metadata.replace(creationTimestamp=rfc3339(NOW_S - created_s), annotations=active)
    return found.replace(metadata=meta)


def collect(*revisions: Revision, settings: CollectionSettings = KEEP_NONE, latest: str = "") -> Collection:
    owner = configuration(found=status("True", latestReadyRevisionName=latest))
    return plan_collection(owner, revisions, settings, now_s=NOW_S)


def names(found: Collection) -> list[str]:
    return [revision.metadata.name for revision in found.revisions]


def test_only_what_is_old_by_both_clocks_goes() -> None:
    found = collect(
        aged("old", created_s=200, active_s=60),
        aged("made-lately", created_s=99, active_s=60),
        aged("used-lately", created_s=200, active_s=40),
    )
    assert names(found) == ["old"]
    assert found.again_after_s == 1.0


def test_what_is_in_use_stays() -> None:
    kept = aged("kept", created_s=900)
    kept = kept.replace(metadata=kept.metadata.replace(annotations={"serving.knative.dev/no-gc": "True"}))
    found = collect(
        aged("latest", created_s=900),
        aged("routed", created_s=900, state="active"),
        aged("new", created_s=900, state="pending"),
        kept,
        latest="latest",
    )
    assert (names(found), found.again_after_s) == ([], None)


def test_the_least_number_stays_whatever_its_age() -> None:
    settings = CollectionSettings(kept_min=2, kept_max=None, retain_since_create_s=1.0, retain_since_active_s=1.0)
    revisions = [aged(f"r{age}", created_s=age) for age in (10, 40, 20, 30)]
    assert names(collect(*revisions, settings=settings)) == ["r40", "r30"]


def test_past_the_greatest_number_the_oldest_go() -> None:
    settings = CollectionSettings(kept_min=0, kept_max=1)
    revisions = [aged(f"r{age}", created_s=age) for age in (10, 30, 20)]
    assert names(collect(*revisions, settings=settings)) == ["r30", "r20"]


def test_without_clocks_nothing_grows_old() -> None:
    settings = CollectionSettings(kept_min=0, kept_max=None, retain_since_create_s=None, retain_since_active_s=None)
    found = collect(aged("r", created_s=1e9), settings=settings)
    assert (names(found), found.again_after_s) == ([], None)


def test_settings() -> None:
    assert parse_collection({}) == CollectionSettings()
    assert parse_collection({"retain-since-create-time": "Disabled", "max-non-active-revisions": "disabled"}) == (
        CollectionSettings(retain_since_create_s=None, kept_max=None)
    )
    for data in ({"retain-since-create-time": "-1h"}, {"min-non-active-revisions": "1001"}):
        with pytest.raises(UserError):
            parse_collection(data)
