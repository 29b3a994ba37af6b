"""Log lines are JSON with the event as a constant, and logging costs little."""

from __future__ import annotations

import json
import subprocess
import sys

LINE = """
from controller.base.logging import configure_logging, get_logger
configure_logging("info", component="test")
log = get_logger("here")
log.debug("unseen")
log.info("scaled", revision="r-00001", to_replicas=4)
try:
    1 / 0
except ZeroDivisionError as error:
    log.error("failed", exc_info=error)
"""


def lines() -> list[dict[str, object]]:
    seen = subprocess.run([sys.executable, "-c", LINE], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in seen.stderr.splitlines()]


def test_a_line_is_a_json_object_with_its_event_and_its_values() -> None:
    scaled, failed = lines()
    assert scaled["event"] == "scaled"
    assert (scaled["component"], scaled["source"], scaled["to_replicas"]) == ("test", "here", 4)
    assert "ZeroDivisionError" in str(failed["exception"])


def test_logging_does_not_bring_rich_along_and_leaves_it_importable() -> None:
    code = "import sys, controller.base.logging as l; print('rich' in sys.modules); import rich.console; print('ok')"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.split() == ["False", "ok"]
