"""A runtime's template and a server forked from it, as the node does it."""

from __future__ import annotations

import contextlib
import os
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from onebox.node.images import PRELOADS
from tests.ports import free_port
from tests.runtimes.test_templates import DEADLINE_S, Template
from tests.waiting import wait_for

_ATTEMPTS = 5
"""Ports are chosen before the server binds them; another process may be quicker."""


@dataclass(frozen=True)
class Forked:
    """A server that was forked, and the template's threads before that."""

    url: str
    pid: int
    template_threads: int


def threads_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


@contextlib.contextmanager
def forked(template_name: str, runtime: str, model: Path, directory: Path, env: Mapping[str, str]) -> Iterator[Forked]:
    """`runtimes.<runtime>` serving `model` as "m", ready, in a child of the node's template of that name."""
    template = Template(directory, PRELOADS[template_name])
    try:
        template.ask({"list": True}, [])  # Answered when the imports are done.
        threads = threads_of(template.process.pid)
        for attempt in range(_ATTEMPTS):
            url, pid = fork(template, f"runtimes.{runtime}", model, {**env, "ATTEMPT": str(attempt)})
            if wait_for("the model is ready", partial(settled, url, pid), timeout_s=DEADLINE_S) == "ready":
                yield Forked(url, pid, threads)
                return
            assert "cannot listen" in (directory / "out").read_text(), (directory / "out").read_text()
    finally:
        template.close()


def fork(template: Template, module: str, model: Path, env: Mapping[str, str]) -> tuple[str, int]:
    """The server's address and process."""
    port = free_port()
    request = {
        "id": f"{module}/{env['ATTEMPT']}",
        "module": module,
        "argv": ["--model_name=m", f"--model_dir={model}"],
        "env": {"LADLE_HOST": "127.0.0.1", "LADLE_HTTP_PORT": str(port), **env},
        "cwd": "/",
    }
    with (template.directory / "out").open("ab") as out:
        answer = template.ask(request, [out.fileno(), out.fileno()])
        while "pid" not in answer or "exit_code" in answer:  # The end of an earlier child.
            answer = template.ask(request, [out.fileno(), out.fileno()])
    return f"http://127.0.0.1:{port}", int(answer["pid"])


def settled(url: str, pid: int) -> str | None:
    """ "ready", "ended", or None while it is neither."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/v2/models/m/ready", timeout=DEADLINE_S) as answer:
        if answer.status == 200:
            return "ready"
    return None if Path(f"/proc/{pid}").exists() else "ended"
