"""`ladle`: every verb in one list; each one's work is in the module beside."""

from __future__ import annotations

import typer

from ladle.cli import autoscaler, explanation, manifests, onebox, predictions
from ladle.cli.console import failures_as_messages

app = typer.Typer(
    name="ladle",
    help="Serves models and keeps serving the best one: KServe's and Katib's manifests, on a cluster or on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("up")(onebox.up)
app.command("down")(onebox.down)
app.command("status")(onebox.status)
app.command("render")(manifests.render)
app.command("validate")(manifests.validate)
app.command("explain-runtime")(explanation.explain_runtime)
app.command("predict")(predictions.predict)
app.command("logs")(predictions.logs)
app.add_typer(autoscaler.app, name="autoscaler")


def run() -> None:
    """The console script: runs a verb, and says in one line what to do where it could not."""
    with failures_as_messages():
        app()
