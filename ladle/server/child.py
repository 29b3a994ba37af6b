"""What a forked child does before it is a server of its own: session, files, environment, then `main(argv)`.

Runs in the child only and never returns to the template's loop.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

_COMMAND_NAME_LENGTH_MAX = 15
"""TASK_COMM_LEN of Linux without its final NUL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One process to become: `main(argv)` of `module`, or of its `__main__` if it is a package, with this environment,
    directory and output."""

    id: str
    module: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    stdout_fd: int
    stderr_fd: int


def run_child(spec: ChildSpec) -> NoReturn:
    """Becomes the process that `spec` describes, and exits with what its main returned."""
    leave(lambda: _become(spec))


def _become(spec: ChildSpec) -> int:
    _detach(spec)
    return _run_main(spec)


def leave(main: Callable[[], int]) -> NoReturn:
    """Runs a forked process's `main` and exits with what it returned; nothing of the parent's stack runs after it."""
    code = 1
    try:
        code = main()
    except SystemExit as request:
        code = _exit_code(request)
    except BaseException:  # noqa: BLE001  # The last stop of this process: whatever it was belongs into its log.
        traceback.print_exc()
    finally:
        _exit(code)


def _detach(spec: ChildSpec) -> None:
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(spec.stdout_fd, 1)
    os.dup2(spec.stderr_fd, 2)
    for fd in {null, spec.stdout_fd, spec.stderr_fd} - {0, 1, 2}:
        os.close(fd)
    # Line buffered: a log that is read while the server runs must not lag behind.
    sys.stdout = open(1, "w", buffering=1, closefd=False, errors="backslashreplace", encoding="utf-8")  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False, errors="backslashreplace", encoding="utf-8")  # noqa: SIM115
    os.environ.clear()
    os.environ.update(spec.env)
    os.chdir(spec.cwd)
    _name_process(spec.module.rpartition(".")[2])
    gc.enable()
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()  # All children would draw the template's numbers; `random` of the standard library reseeds itself.


def _name_process(name: str) -> None:
    with open("/proc/self/comm", "w", encoding="ascii", errors="replace") as file:
        file.write(name[:_COMMAND_NAME_LENGTH_MAX])


def _run_main(spec: ChildSpec) -> int:
    sys.argv = [spec.module, *spec.argv]
    module = importlib.import_module(spec.module)
    entry = importlib.import_module(f"{spec.module}.__main__") if hasattr(module, "__path__") else module
    code: int = entry.main(list(spec.argv))
    return code


def _exit_code(request: SystemExit) -> int:
    """What the interpreter itself would make of it."""
    if request.code is None:
        return 0
    if isinstance(request.code, int):
        return request.code
    sys.stderr.write(f"{request.code}\n")
    return 1


def _exit(code: int) -> NoReturn:
    """Ends without taking the interpreter down: that would touch, and so copy, every page shared with the template."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001  # As multiprocessing does after a fork.
        atexit._run_exitfuncs()  # noqa: SLF001  # The same.
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code & 0xFF)
