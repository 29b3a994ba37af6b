"""Blocks of the size of a tensor are kept by malloc: seen in page faults, in processes of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os, resource
from ladle.server.allocator import keep_large_blocks

if not keep_large_blocks(os.environ):
    raise SystemExit(77)

def take() -> None:
    first, second = bytearray(4 * 1024 * 1024), bytearray(4 * 1024 * 1024)

take()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    take()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
NOT_GLIBC = 77
FAULTS_OF_ONE_TURN = 2 * 1024
"""8 MiB in pages of 4 KiB."""


def faults(**env: str) -> int:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, timeout=60)
    if ended.returncode == NOT_GLIBC:
        pytest.skip("malloc is not glibc's")
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout)


def test_large_blocks_are_kept() -> None:
    assert faults() < FAULTS_OF_ONE_TURN


def test_the_environment_wins() -> None:
    """Where blocks of that size are mapped each time, each time faults all pages anew (huge pages make them fewer)."""
    given_back = faults(MALLOC_MMAP_THRESHOLD_="65536", MALLOC_TRIM_THRESHOLD_="65536")
    assert given_back > faults() + 20


def test_what_is_no_number_is_ignored() -> None:
    assert faults(MALLOC_TRIM_THRESHOLD_="much") < FAULTS_OF_ONE_TURN
