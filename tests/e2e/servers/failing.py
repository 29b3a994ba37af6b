"""failing: ends soon after its start, and says why."""

from __future__ import annotations

import sys

EXIT_CODE = 5
REASON = "the noodles are gone"


if __name__ == "__main__":
    sys.stderr.write(f"{REASON}\n")
    sys.exit(EXIT_CODE)
