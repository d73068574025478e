"""`python -m calls_async.cli` is `calls-async`."""

from __future__ import annotations

import sys

from calls_async.cli import main

if __name__ == "__main__":
    sys.exit(main())
