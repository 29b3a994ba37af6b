"""`ladle autoscaler`: what the autoscaler would have decided on recorded load, and would do under traffic to come."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ladle.cli.simulation import simulate

app = typer.Typer(help="Ask the autoscaler offline.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Ask the autoscaler offline."""


@app.command()
def replay(file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Traces as JSON")]) -> None:
    """Print the same traces with `ticks` decided anew: stable and panic averages, desired pods, burst capacity."""
    from onebox.knative.autoscaler.replay import replay as replay_trace

    traces = json.loads(file.read_text())
    decided = [replay_trace(trace) for trace in traces] if isinstance(traces, list) else replay_trace(traces)
    sys.stdout.write(json.dumps(decided, indent=1) + "\n")


app.command()(simulate)
