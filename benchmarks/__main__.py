"""`make bench`: runs the benchmarks one after the other and prints their figures as ratios.

`python -m benchmarks [NAME...]` runs the named ones. Nothing here is a test: the machine decides the figures.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from benchmarks import control_plane

BENCHMARKS: Mapping[str, Callable[[], None]] = {"control-plane": control_plane.main}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no benchmark is named {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 1
    for name in names or BENCHMARKS:
        print(f"\n## {name}\n", flush=True)
        BENCHMARKS[name]()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
