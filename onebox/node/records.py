"""Records of pods on disk: DIR/node/pods/<uid>/record.json, replaced in one step at each change."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson

from controller.base.clock import Clock
from controller.base.logging import get_logger
from onebox.home import Home, write_atomically
from onebox.node.state import PodRecord, dump_record, parse_record

log = get_logger(__name__)

_FILE = "record.json"


class RecordStore:
    """What survives the node's death."""

    def __init__(self, home: Home, clock: Clock) -> None:
        self._pods = home.node / "pods"
        self._clock = clock

    def folder(self, uid: str) -> Path:
        """The pod's own directory: record, volumes, working directories."""
        return self._pods / uid

    def save(self, record: PodRecord) -> None:
        write_atomically(
            self.folder(record.uid) / _FILE, orjson.dumps(dump_record(record), option=orjson.OPT_NON_STR_KEYS)
        )

    def load_all(self) -> list[PodRecord]:
        """Every record; a directory without a readable one is removed: nothing was started from it."""
        records = []
        for folder in self._pods.glob("*"):
            try:
                stored = orjson.loads((folder / _FILE).read_bytes())
                records.append(parse_record(stored, now_s=self._clock.monotonic_s()))
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.warning("pod directory without a record", folder=str(folder), error=str(error))
                shutil.rmtree(folder, ignore_errors=True)
        return records

    def remove(self, uid: str) -> None:
        shutil.rmtree(self.folder(uid), ignore_errors=True)
