"""The command line: ``recollect COMMAND``. Each command calls the public functions of the library.

Exit codes: 0 done, 1 the library refused or a check failed, 2 the command was not understood, 130
interrupted. Results go to stdout, everything else to stderr; with ``--json`` stdout holds exactly
one JSON object, also when the command fails.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: What stands after ``recollect`` on the command line; None takes ``sys.argv``.
    """
    try:
        import rich  # noqa: F401 - only asks whether it is installed
        import typer  # noqa: F401 - as above
    except ImportError as error:
        sys.stderr.write(
            f"The command line needs {error.name}.\nRun: pip install 'recollect[cli]'\n"
        )
        return 2
    from recollect.cli.app import run

    return run(list(sys.argv[1:] if arguments is None else arguments))
