"""pods/log: finds a container's files and reads the part of them that was asked for.

Files are `<pod logs>/<namespace>_<pod>_<uid>/<container>/<restart>.log`, raw output, one file for each start. Reading
happens in an executor; what decides is pure.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.base.clock import parse_rfc3339
from controller.base.errors import FieldError
from controller.base.json import JsonView
from onebox.apiserver.requests import parse_flag, parse_integer
from onebox.apiserver.status import bad_request, invalid

_BLOCK_BYTES = 64 << 10
"""Read at once while looking for the start of the last lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """What of a log is wanted."""

    container: str = ""
    follow: bool = False
    previous: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since_s: float | None = None
    """Unix time before which nothing is wanted."""


def parse_log_options(query: Mapping[str, str], now_s: float) -> LogOptions:
    """The options of a log request; Refused (422) where a number is negative."""
    tail, limit = _count(query, "tailLines", 0), _count(query, "limitBytes", 1)
    since_s = None
    if query.get("sinceSeconds"):
        since_s = now_s - (_count(query, "sinceSeconds", 1) or 0)
    elif query.get("sinceTime"):
        since_s = parse_rfc3339(query["sinceTime"])
    return LogOptions(
        container=query.get("container", ""),
        follow=parse_flag(query, "follow"),
        previous=parse_flag(query, "previous"),
        tail_lines=tail,
        limit_bytes=limit,
        since_s=since_s,
    )


def _count(query: Mapping[str, str], name: str, least: int) -> int | None:
    text = query.get(name)
    if not text:
        return None
    count = parse_integer(text)
    if count < least:
        must = "greater than or equal to 0" if least == 0 else "greater than 0"
        error = FieldError(field=name, message=f"Invalid value: {count}: must be {must}")
        raise invalid("PodLogOptions", "", "", [error])
    return count


def choose_container(pod: JsonView, wanted: str) -> str:
    """The container whose log is meant, or a refusal in kube-apiserver's words."""
    spec, name = pod.get("spec") or {}, pod["metadata"]["name"]
    listed = {
        part: [each.get("name", "") for each in spec.get(part) or ()] for part in ("containers", "initContainers")
    }
    if wanted:
        if wanted not in (*listed["containers"], *listed["initContainers"]):
            raise bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(listed["containers"]) == 1:
        return str(listed["containers"][0])
    default = (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    if default in listed["containers"]:
        return str(default)
    choices = f"choose one of: [{' '.join(listed['containers'])}]"
    if listed["initContainers"]:
        choices += f" or one of the init containers: [{' '.join(listed['initContainers'])}]"
    raise bad_request(f"a container name must be specified for pod {name}, {choices}")


def waiting_reason(pod: JsonView, container: str) -> str | None:
    """Why a container has no log yet (`PodInitializing`, `ErrImagePull`); None where it has started at least once."""
    status = pod.get("status") or {}
    for part in ("containerStatuses", "initContainerStatuses"):
        for each in status.get(part) or ():
            if each.get("name") == container:
                waiting = (each.get("state") or {}).get("waiting")
                started_once = bool(each.get("restartCount")) or bool(each.get("lastState"))
                return str(waiting.get("reason") or "ContainerCreating") if waiting and not started_once else None
    return None


def log_file(directory: Path, *, previous: bool) -> Path | None:
    """The newest log in a container's directory, or the one before it; None where there is none."""
    numbers = sorted(int(path.stem) for path in directory.glob("*.log") if path.stem.isdigit())
    if previous:
        numbers = numbers[:-1]
    return directory / f"{numbers[-1]}.log" if numbers else None


def read_log(path: Path, options: LogOptions) -> tuple[bytes, int]:
    """The wanted part of a file as it is now, and the offset where what comes later will start."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        # Lines carry no times: the file's last change says whether anything can be young enough.
        if options.since_s is not None and os.fstat(file.fileno()).st_mtime < options.since_s:
            return b"", size
        start = 0 if options.tail_lines is None else _start_of_tail(file.fileno(), size, options.tail_lines)
        length = size - start if options.limit_bytes is None else min(size - start, options.limit_bytes)
        return os.pread(file.fileno(), length, start), size


def read_more(path: Path, offset: int) -> bytes:
    """What was written after `offset`; nothing where the file is gone."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(_BLOCK_BYTES * 16)
    except FileNotFoundError:
        return b""


def _start_of_tail(descriptor: int, size: int, lines: int) -> int:
    """The offset at which the last `lines` lines begin."""
    if lines == 0:
        return size
    position, wanted = size, lines
    if size and os.pread(descriptor, 1, size - 1) == b"\n":
        wanted += 1  # The newline at the end ends the last line; it does not begin one.
    while position > 0:
        length = min(_BLOCK_BYTES, position)
        position -= length
        block = os.pread(descriptor, length, position)
        count = block.count(b"\n")
        if count < wanted:
            wanted -= count
            continue
        at = len(block)
        for _ in range(wanted):
            at = block.rindex(b"\n", 0, at)
        return position + at + 1
    return 0
