"""The command line, `calls-async`; the rule: it is an extra, and where that is missing, it says so.

click and rich are imported behind `main`, so that a missing one is a line and not a traceback.
"""

from __future__ import annotations

import sys

_EXTRA = ("click", "rich")


def main() -> int:
    """Run the command that the arguments name, which ends the process.

    Returns:
        The exit code, where no command can be run.
    """
    try:
        from calls_async.cli._app import app  # noqa: PLC0415 (the module's rule)
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in _EXTRA:
            raise
        print("calls-async: to use it, run: pip install 'calls_async[cli]'", file=sys.stderr)
        return 3
    except KeyboardInterrupt:  # the imports take a moment
        return 130
    return app.main(prog_name="calls-async")
