"""`ladle autoscaler simulate`: a manifest and a traffic trace in; replicas, waiting, cold starts, latency and cost out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.table import Table

from ladle.cli.console import fail, failures_as_messages, notes
from ladle.cli.manifests import read_objects

if TYPE_CHECKING:
    from onebox.knative.settings import ServingSettings
    from onebox.knative.simulation.scenario import Assumptions, RevisionShape
    from onebox.knative.simulation.summary import Summary


def simulate(
    *,
    manifest: Annotated[Path, typer.Option(help="An InferenceService or a Knative Service; - for standard input")],
    traffic: Annotated[Path, typer.Option(help="CSV: time, requests/s; each row holds until the next")],
    service_time: Annotated[str, typer.Option(help="Work for one request, for example 20ms")],
    spread: Annotated[float, typer.Option(help="Standard deviation of the work over its mean")] = 0.0,
    parallel: Annotated[int, typer.Option(help="Requests that a pod works on at once without getting slower")] = 1,
    cold_start: Annotated[str, typer.Option(help="From the wish for a pod until it is ready")] = "1s",
    even: Annotated[bool, typer.Option("--even", help="Requests at equal distances instead of at random")] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same run")] = 0,
    service: Annotated[str, typer.Option(help="Which Knative Service, where the manifest leads to several")] = "",
    config: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads this at run time.
        typer.Option(help="config-autoscaler and other maps of the cluster; without, those that `ladle up` ships"),
    ] = None,
    plot: Annotated[Optional[Path], typer.Option(help="Draw it into this file (.png, .svg, .pdf)")] = None,  # noqa: UP045
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON")] = False,
) -> None:
    """Say what this traffic would do to this service: replicas, waiting, cold starts, latency, replica-hours."""
    with failures_as_messages():
        from controller.base.errors import UserError
        from onebox.knative.simulation.scenario import Assumptions

        try:
            settings = _settings(config)
            given = Assumptions(
                service_s=_seconds("--service-time", service_time),
                spread=spread,
                parallel=parallel,
                cold_start_s=_seconds("--cold-start", cold_start),
                even=even,
                seed=seed,
            )
            shape = _shape(manifest, service, settings)
            summary = _run(shape, traffic, given, settings, plot)
        except UserError as error:
            raise fail(error.message) from None
    if as_json:
        sys.stdout.write(json.dumps(asdict(summary), indent=1) + "\n")
    else:
        _print(shape, summary)


def _run(
    shape: RevisionShape, traffic: Path, given: Assumptions, settings: ServingSettings, plot: Path | None
) -> Summary:
    from onebox.knative.simulation.picture import draw
    from onebox.knative.simulation.scenario import simulate as simulate_run
    from onebox.knative.simulation.summary import summarize
    from onebox.knative.simulation.traffic import parse_traffic

    try:
        trace = parse_traffic(traffic.read_text())
        run, load = simulate_run(shape, trace, given, settings)
        if plot is not None:
            draw(run, load, title=f"{shape.name} under {traffic.name}", target=plot)
    except OSError as error:
        raise fail(f"{error.filename}: {error.strerror}") from None
    return summarize(run, load, parallel=given.parallel)


def _shape(manifest: Path, name: str, settings: ServingSettings) -> RevisionShape:
    from onebox.knative.simulation.scenario import parse_shape

    found = {item["metadata"]["name"]: item for item in _knative_services(manifest)}
    if not found:
        raise fail(f"{manifest}: neither an InferenceService nor a Knative Service in it")
    if not name and len(found) > 1:
        raise fail(f"{manifest} leads to several Knative Services: choose with --service {' | '.join(found)}")
    chosen = found.get(name) if name else next(iter(found.values()))
    if chosen is None:
        raise fail(f"--service {name}: {manifest} leads to {', '.join(found)}")
    return parse_shape(chosen, settings)


def _knative_services(manifest: Path) -> Iterator[dict[str, Any]]:
    from controller.inferenceservice.forecast import render_once_ready

    objects = read_objects([manifest])
    inference = [item for item in objects if item["kind"] == "InferenceService"]
    if inference:
        objects = [*objects, *render_once_ready(objects, namespace="default", with_status=False)]
    yield from (item for item in objects if _is_knative_service(item))


def _is_knative_service(item: dict[str, Any]) -> bool:
    return item["kind"] == "Service" and str(item.get("apiVersion", "")).startswith("serving.knative.dev/")


def _settings(config: Path | None) -> ServingSettings:
    from onebox.knative.settings import parse_settings, shipped_settings

    if config is None:
        return shipped_settings()
    maps = {
        item["metadata"]["name"]: item.get("data") or {}
        for item in read_objects([config])
        if item["kind"] == "ConfigMap"
    }
    if not maps:
        raise fail(f"--config {config}: no ConfigMap in it")
    return parse_settings(maps)


def _seconds(option: str, text: str) -> float:
    from onebox.knative.duration import parse_duration_s

    try:
        return parse_duration_s(text)
    except ValueError:
        raise fail(f"{option} {text}: a duration has a unit, for example 20ms or 1.5s") from None


def _print(shape: RevisionShape, summary: Summary) -> None:
    table = Table(title=shape.name, show_header=False, title_justify="left")
    for name, value in _lines(summary):
        table.add_row(name, value)
    from rich.console import Console

    Console(highlight=False).print(table)
    if summary.rejected or summary.timed_out:
        notes.print(
            "[yellow]Requests failed: raise max-scale, lower the target, or keep a pod with min-scale.[/yellow]"
        )


def _lines(summary: Summary) -> Iterator[tuple[str, str]]:
    yield (
        "requests",
        f"{summary.requests} ({summary.served} served, {summary.rejected} × 503, {summary.timed_out} × 504)",
    )
    yield "cold", f"{summary.cold} requests in {summary.cold_starts} cold starts"
    yield (
        "latency p50 / p90 / p99 / max",
        " / ".join(
            _ms(value)
            for value in (
                summary.latency_p50_ms,
                summary.latency_p90_ms,
                summary.latency_p99_ms,
                summary.latency_max_ms,
            )
        ),
    )
    yield "of which waiting p50 / p99", f"{_ms(summary.wait_p50_ms)} / {_ms(summary.wait_p99_ms)}"
    yield "most requests inside / held", f"{summary.inside_max} / {summary.held_max}"
    yield "replicas mean / max", f"{summary.pods_mean:.2f} / {summary.pods_max}"
    yield "replica-hours", f"{summary.replica_hours:.3f}"
    yield "at zero / in panic", f"{summary.at_zero_share:.0%} / {summary.panic_share:.0%}"
    yield "pods busy", "-" if summary.busy_share is None else f"{summary.busy_share:.0%}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"
