"""Load by h2load of nghttp2: one thread of C, HTTP/1.1 and HTTP/2, a log line for each request.

Closed loop: each connection sends its next request when it has the answer to the last one, so that what is measured is how
fast a server is with so many clients, not how long requests queue at a given rate. Percentiles are those of the log lines,
not of a histogram. h2load sees the HTTP status only; that answers are right is checked before.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.serving.cases import Case

WARM_UP_S = 0.2
"""Before anything is counted: connections are made, caches are warm. A guess."""
_US_PER_MS = 1000
_OK = 200


@dataclass(frozen=True, slots=True)
class Figures:
    """One slice of load on one server."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    failures: int


def missing() -> str:
    """What to do where h2load is not there; "" where it is."""
    return "" if shutil.which("h2load") else "h2load is missing; on Debian: apt-get install nghttp2-client"


def run(case: Case, port: int, *, connections: int, duration_s: float) -> Figures:
    """`connections` at once for `duration_s` seconds."""
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder) / "body", Path(folder) / "log"
        body.write_bytes(case.body)
        arguments = [f"--data={body}", f"--log-file={log}", f"--clients={connections}", "--threads=1"]
        arguments += [f"--duration={round(duration_s * 1000)}ms", f"--warm-up-time={round(WARM_UP_S * 1000)}ms"]
        arguments += [f"--header={name}: {value}" for name, value in case.headers.items()]
        if not case.is_grpc:
            arguments.append("--h1")
        command = ["h2load", *arguments, f"http://127.0.0.1:{port}{case.path}"]
        subprocess.run(command, check=True, capture_output=True, timeout=60 + duration_s)
        lines = log.read_text().split("\n")
    # Start, status, duration in µs; failed ones have status -1.
    rows = np.array([line.split("\t")[:3] for line in lines if line], dtype=np.int64)
    if not len(rows):
        return Figures(0.0, float("nan"), float("nan"), 0)
    p50, p99 = np.percentile(rows[:, 2], (50, 99)) / _US_PER_MS
    return Figures(len(rows) / duration_s, float(p50), float(p99), int((rows[:, 1] != _OK).sum()))
