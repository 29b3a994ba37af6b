"""The style guide as a test, so that no review spends time on it: sizes, banned names and calls, purity, sleeps."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("ladle", "controller", "runtimes", "transformer", "onebox")
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
PARAMETERS_MAX = 6
BANNED_FILES = {"utils.py", "helpers.py", "common.py"}
BANNED_CALLS = {
    r"\btime\.time\(": "a Clock: wall-clock time comes from clock.py",
    r"\bdatetime\.(now|utcnow)\(": "a Clock: wall-clock time comes from clock.py",
    r"^\s*(asyncio\.)?(create_task|ensure_future)\(": "a TaskGroup: a lost task loses its error",
    r"\basyncio\.(create_task|ensure_future)\(": "a TaskGroup: a lost task loses its error",
    r"^\s*print\(": "the logger, or sys.stdout where the output is the result",
    r"#.*\b(TODO|FIXME|XXX)\b": "an issue, or the work itself",
    r"except:\s*$": "the error that is expected",
}
WALL_CLOCK_HOMES = {"clock.py"}
PURE = re.compile(r"^(plan|decide|build|render)_")
IMPURE_NAMES = {"client", "clock", "session"}


def sources() -> Iterator[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    yield from (ROOT / name for name in listed.stdout.split("\n") if name and (ROOT / name).exists())


def product() -> list[Path]:
    return [path for path in sources() if path.relative_to(ROOT).parts[0] in PACKAGES and not _generated(path)]


def _generated(path: Path) -> bool:
    return "_pb2" in path.name


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def found(problems: list[str]) -> None:
    assert not problems, "\n" + "\n".join(problems)


def test_files_have_one_subject_and_fit_a_sitting() -> None:
    found(
        [
            f"{p.relative_to(ROOT)}: {n} lines"
            for p in sources()
            if (n := len(p.read_text().splitlines())) > FILE_LINES_MAX
        ]
        + [f"{p.relative_to(ROOT)}: a name without a subject" for p in sources() if p.name in BANNED_FILES]
    )


def test_functions_fit_a_screen() -> None:
    found(
        [
            f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {length} lines"
            for path in sources()
            for node in functions(path)
            if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
        ]
    )


def test_functions_take_at_most_six_parameters() -> None:
    problems = []
    for path in product():
        if path.relative_to(ROOT).parts[:2] == ("ladle", "cli"):
            continue  # A verb's parameters are its flags.
        for node in functions(path):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = sum(argument.arg not in ("self", "cls") for argument in arguments)
            if count > PARAMETERS_MAX and node.name != "__init__":
                problems.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {count} parameters")
    found(problems)


@pytest.mark.parametrize("pattern", BANNED_CALLS)
def test_banned_calls_are_absent(pattern: str) -> None:
    problems = []
    for path in product():
        if path.name in WALL_CLOCK_HOMES and "Clock" in BANNED_CALLS[pattern]:
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.search(pattern, line) and "group" not in line:
                problems.append(f"{path.relative_to(ROOT)}:{number}: use {BANNED_CALLS[pattern]}: {line.strip()}")
    found(problems)


def test_decisions_are_pure() -> None:
    """What is named plan_, decide_, build_ or render_ promises no I/O: it awaits nothing and gets no client or clock."""
    problems = []
    for path in product():
        for node in functions(path):
            if not PURE.match(node.name):
                continue
            impure = isinstance(node, ast.AsyncFunctionDef) or any(isinstance(n, ast.Await) for n in ast.walk(node))
            named = {a.arg for a in (*node.args.args, *node.args.kwonlyargs)} & IMPURE_NAMES
            if impure or named:
                problems.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {named or 'awaits'}")
    found(problems)


def test_broad_excepts_say_why() -> None:
    problems = []
    for path in product():
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines, 1):
            if re.search(r"except (Base)?Exception\b", line):
                near = lines[max(0, number - 3) : number + 2]
                if not any("#" in text for text in near):
                    problems.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    found(problems)


def test_ignores_say_what_they_ignore() -> None:
    found(
        [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
            for path in product()
            for number, line in enumerate(path.read_text().splitlines(), 1)
            if re.search(r"#\s*type:\s*ignore(?!\[[a-z-, ]+\])", line)
        ]
    )


def sleeps(path: Path) -> Iterator[int]:
    """Lines that call time.sleep or asyncio.sleep; programs that a test starts, in strings, may sleep."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or ast.unparse(node.func) not in ("time.sleep", "asyncio.sleep"):
            continue
        if ast.unparse(node.args[0]) != "0":  # Zero gives others a turn; no time passes.
            yield node.lineno


def test_tests_wait_for_conditions_instead_of_sleeping() -> None:
    """The simulation may: its time is virtual, and a sleep in it is something that takes that long."""
    found(
        [
            f"{path.relative_to(ROOT)}:{line}"
            for path in sources()
            if path.relative_to(ROOT).parts[0] == "tests" and path.name != "waiting.py" and path.parent.name != "sim"
            for line in sleeps(path)
        ]
    )


def test_control_plane_knows_no_framework() -> None:
    """A runtime is data: a framework's name in the controller would mean a code change for each new one."""
    pattern = re.compile(r"^\s*(import|from) (sklearn|torch|onnx|xgboost|lightgbm|numpy)", re.MULTILINE)
    found(
        [
            str(path.relative_to(ROOT))
            for path in product()
            if path.relative_to(ROOT).parts[0] == "controller" and pattern.search(path.read_text())
        ]
    )
