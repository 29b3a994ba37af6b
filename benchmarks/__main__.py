"""`make bench`: runs the benchmarks one after the other and prints their figures as ratios.

`python -m benchmarks [--quick] [--count N] [NAME...]` runs the named ones. Nothing here is a test: the machine decides the
figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from benchmarks import cold_start, control_plane, revisions, start
from benchmarks.serving import run as serving

BENCHMARKS: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "serving": lambda arguments: serving.main(quick=arguments.quick),
    "control-plane": lambda _: control_plane.main(),
    "start": lambda _: start.main(),
    "cold_start": lambda arguments: cold_start.main(count=arguments.count),
    "revisions": lambda arguments: revisions.main(sizes=[int(size) for size in arguments.sizes.split(",")]),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; all without one")
    parser.add_argument("--quick", action="store_true", help="serving: short slices, one round")
    parser.add_argument("--count", type=int, default=cold_start.COUNT, help="cold_start: requests to each runtime")
    sizes = ",".join(map(str, revisions.SIZES))
    parser.add_argument("--sizes", default=sizes, metavar="N,N,...", help="revisions: how many to register")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is named {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
    for name in arguments.names or BENCHMARKS:
        print(f"\n## {name}\n", flush=True)
        BENCHMARKS[name](arguments)


if __name__ == "__main__":
    main()
