"""The page takes what answers, and says what does not."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from controller.base.exposition import Family
from onebox.metrics import page as page_module
from onebox.metrics.gateway import plan_gateway_families
from onebox.metrics.page import Page, SourceAway, parse_source

ENVOY = """\
# TYPE envoy_cluster_upstream_rq_xx counter
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="outbound|80||r-1.default.svc.cluster.local"} 7
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="outbound|80||r-1.default.svc.cluster.local"} 1
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="outbound|80||other.default.svc.cluster.local"} 9
# TYPE envoy_http_downstream_rq_xx counter
envoy_http_downstream_rq_xx{envoy_response_code_class="4",envoy_http_conn_manager_prefix="public"} 2
# TYPE envoy_cluster_upstream_rq_time histogram
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="outbound|80||r-1.default.svc.cluster.local",le="5"} 6
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="outbound|80||r-1.default.svc.cluster.local",le="+Inf"} 8
envoy_cluster_upstream_rq_time_sum{envoy_cluster_name="outbound|80||r-1.default.svc.cluster.local"} 34.5
envoy_cluster_upstream_rq_time_count{envoy_cluster_name="outbound|80||r-1.default.svc.cluster.local"} 8
"""
LABELS = 'namespace_name="default",revision_name="r-1"'


def values(page: str) -> dict[str, float]:
    """Values by name and labels, labels in the order of the page."""
    return {
        f"{s.name}{sorted(s.labels.values())}": s.value
        for family in text_string_to_metric_families(page)
        for s in family.samples
    }


async def test_a_source_that_fails_or_hangs_is_missing_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "SOURCE_MAX_S", 0.01)

    async def well() -> list[Family]:
        return [_family("well")]

    async def hangs() -> list[Family]:
        await asyncio.Event().wait()
        return [_family("hangs")]

    async def fails() -> list[Family]:
        raise SourceAway("gone")

    page = Page([lambda: [_family("own")]], {"well": well, "hangs": hangs, "fails": fails})
    await page.render()
    found = values(await page.render())
    assert found["own[]"] == found["well[]"] == 1
    assert "hangs[]" not in found
    up = {name: found[f"ladle_metrics_source_up['{name}']"] for name in ("well", "hangs", "fails")}
    assert up == {"well": 1, "hangs": 0, "fails": 0}
    assert found["ladle_metrics_source_failures_total['hangs']"] == 2


async def test_a_source_that_talks_nonsense_is_missing() -> None:
    async def nonsense() -> object:
        return parse_source("<html>")

    found = values(await Page([], {"nonsense": nonsense}).render())  # type: ignore[dict-item]
    assert found["ladle_metrics_source_up['nonsense']"] == 0


def test_envoys_counts_are_told_by_revision() -> None:
    def labels_of(namespace: str, name: str) -> str | None:
        return LABELS if (namespace, name) == ("default", "r-1") else None

    families = {family.name: family.lines for family in plan_gateway_families(ENVOY, labels_of)}
    assert families["revision_request_count"] == [
        f'revision_request_count{{{LABELS},response_code_class="2xx"}} 7',
        f'revision_request_count{{{LABELS},response_code_class="5xx"}} 1',
    ]
    assert families["revision_request_latencies"] == [
        f'revision_request_latencies_bucket{{{LABELS},le="5"}} 6',
        f'revision_request_latencies_bucket{{{LABELS},le="+Inf"}} 8',
        f"revision_request_latencies_sum{{{LABELS}}} 34.5",
        f"revision_request_latencies_count{{{LABELS}}} 8",
    ]
    assert len(families["envoy_http_downstream_rq_xx"]) == 1


def _family(name: str) -> Family:
    family = Family(name, "gauge", "help")
    family.add("", 1)
    return family
