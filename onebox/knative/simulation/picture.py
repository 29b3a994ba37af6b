"""A run as a picture: load, pods and waiting over one time axis."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from controller.base.errors import UserError
from onebox.knative.simulation.plant import Fate
from onebox.knative.simulation.simulator import Run, Workload

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE_INCHES = (11.0, 8.0)
_DOTS_PER_INCH = 120
_POINTS_MAX = 20_000
"""Latencies that are drawn, evenly thinned: more would only darken the same area."""


def draw(run: Run, load: Workload, *, title: str, target: Path) -> None:
    """Writes the picture to `target`; its suffix chooses the format. UserError where matplotlib or the format is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError(
            "MissingLibrary", "--plot needs matplotlib, which is not installed: pip install 'ladle[plot]'"
        ) from None
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
    load_axes, pod_axes, latency_axes = figure.subplots(3, 1, sharex=True)
    figure.suptitle(title)
    _draw_load(load_axes, run)
    _draw_pods(pod_axes, run)
    _draw_latencies(latency_axes, run, load)
    latency_axes.set_xlabel("seconds")
    try:
        figure.savefig(target)
    except ValueError as error:
        raise UserError("InvalidPlot", f"--plot {target}: {error}") from None


def _draw_load(axes: Axes, run: Run) -> None:
    seconds = range(1, len(run.series.requests) + 1)
    axes.plot(seconds, run.series.requests, label="requests/s", color="tab:blue", linewidth=1)
    axes.plot(seconds, run.series.inside, label="inside", color="tab:orange", linewidth=1)
    axes.set_ylabel("requests")
    axes.legend(loc="upper right")


def _draw_pods(axes: Axes, run: Run) -> None:
    series = run.series
    seconds = range(1, len(series.ready) + 1)
    axes.step(seconds, series.wanted, where="post", label="wanted", color="tab:gray", linewidth=1, linestyle="--")
    axes.fill_between(seconds, series.ready, step="post", alpha=0.4, label="ready", color="tab:green")
    axes.fill_between(
        seconds, max(series.ready, default=0) + 1, where=series.panic, alpha=0.1, label="panic", color="tab:red"
    )
    axes.set_ylabel("pods")
    axes.legend(loc="upper right")


def _draw_latencies(axes: Axes, run: Run, load: Workload) -> None:
    served = [index for index, fate in enumerate(run.plant.fates) if fate == Fate.SERVED]
    shown = served[:: max(1, len(served) // _POINTS_MAX)]
    axes.plot(
        load.arrivals[shown],
        [run.plant.latencies[index] * 1e3 for index in shown],
        linestyle="none",
        marker=".",
        markersize=2,
        color="tab:purple",
    )
    axes.set_yscale("log")
    axes.set_ylabel("latency, ms")
