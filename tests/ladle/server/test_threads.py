"""Thread limits reach libraries that were loaded before anybody knew the limit."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CODE = """
import json, numpy, threadpoolctl
from ladle.server.threads import find_native_libraries, limit_native_threads
{before}
limit_native_threads({env})
print(json.dumps([library["num_threads"] for library in threadpoolctl.threadpool_info()]))
"""


@pytest.mark.parametrize("before", ["", "find_native_libraries()"])
def test_a_limit_in_the_environment_is_passed_on(before: str) -> None:
    env = {"OPENBLAS_NUM_THREADS": "2"}
    code = CODE.format(before=before, env={"OMP_NUM_THREADS": "1"})
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert set(json.loads(found.stdout)) == {1}


@pytest.mark.parametrize("env", [{}, {"OMP_NUM_THREADS": ""}, {"OMP_NUM_THREADS": "many"}])
def test_without_a_number_nothing_changes(env: dict[str, str]) -> None:
    code = CODE.format(before="", env=env)
    own = {"OPENBLAS_NUM_THREADS": "1"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=own)
    assert set(json.loads(found.stdout)) == {1}
