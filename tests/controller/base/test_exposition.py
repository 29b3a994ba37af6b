"""Pages of metrics, read as Prometheus reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from controller.base.exposition import Family, Histogram, parse_page, render_labels, render_page
from controller.base.metrics_socket import metrics_on, read_page

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


def samples(page: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(page)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def gauge(name: str, value: float, **labels: str) -> Family:
    family = Family(name, "gauge", "help")
    family.add(render_labels(**labels), value)
    return family


@given(st.text(), NUMBERS)
def test_any_label_and_number_comes_out_as_it_went_in(label: str, value: float) -> None:
    # The parser splits at every kind of line end; names of Kubernetes have none of them.
    label = "\n".join(label.splitlines())
    assert samples(render_page([gauge("g", value, of=label)])) == {("g", (("of", label),)): value}


def test_a_counter_keeps_its_name() -> None:
    family = Family("activator_request_count", "counter", "help")
    family.add("", 3)
    assert "\nactivator_request_count 3\n" in render_page([family])
    assert samples(render_page([family])) == {("activator_request_count_total", ()): 3}


def test_families_of_one_name_become_one_and_empty_ones_are_left_out() -> None:
    page = render_page([gauge("g", 1, of="a"), Family("empty", "gauge", "help"), gauge("g", 2, of="b")])
    assert page.count("# TYPE g gauge") == 1
    assert "empty" not in page
    assert samples(page) == {("g", (("of", "a"),)): 1, ("g", (("of", "b"),)): 2}


@given(st.lists(st.floats(0, 20, allow_nan=False), max_size=30))
def test_a_histogram_counts_each_observation_under_its_bounds(values: list[float]) -> None:
    histogram, family = Histogram((1.0, 5.0, 10.0)), Family("h", "histogram", "help")
    for value in values:
        histogram.observe(value)
    histogram.add_to(family, "")
    found = samples(render_page([family]))
    for bound in ("1.0", "5.0", "10.0"):
        assert found["h_bucket", (("le", bound),)] == sum(value <= float(bound) for value in values)
    assert found["h_bucket", (("le", "+Inf"),)] == found["h_count", ()] == len(values)
    assert found["h_sum", ()] == pytest.approx(sum(values))


def test_a_page_read_back_is_the_same_page() -> None:
    page = render_page([gauge("g", 1.5, of='a "b"'), gauge("f", 2)])
    assert render_page(parse_page(page)) == page


@pytest.mark.parametrize("text", ["<html>", "g 1", "# HELP g help\n# TYPE g gauge\nother 1\n"])
def test_what_is_no_page_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no line of metrics"):
        parse_page(text)


async def test_a_page_is_served_on_a_socket_of_any_depth_and_anew(tmp_path: Path) -> None:
    path = tmp_path / ("deep" * 30) / "metrics.sock"
    path.parent.mkdir()
    for value in (1, 2):  # The second one finds the first one's file.
        async with metrics_on(path, [lambda value=value: [gauge("g", value)]]):
            assert samples(await read_page(path)) == {("g", ()): value}
    assert path.stat().st_mode & 0o777 == 0o600
