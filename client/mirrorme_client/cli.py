"""Entry of the `mirrorme` command: runs it, and turns errors into messages and exit codes.

0: done. 1: failed. 2: used wrongly. 130: interrupted by Ctrl-C. 143: ended by SIGTERM.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

FAILED, USED_WRONGLY, INTERRUPTED = 1, 2, 130

# Packages of the `client` extra.
_EXTRA = ("av", "click", "numpy", "rich")


def main() -> None:
    """Runs the command line of this process and exits."""
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        code = _fail(f"this needs {error.name}: pip install 'mirrorme[client]'")
    except KeyboardInterrupt:
        code = _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has left, as `| head` does. Nothing can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Runs the command line and returns its exit code. An unexpected error is raised: a bug."""
    import click

    from mirrorme_client.commands import mirrorme
    from mirrorme_client.errors import AnimationError

    try:
        return mirrorme.main(list(arguments), prog_name="mirrorme", standalone_mode=False) or 0
    except click.Abort:
        return _fail("interrupted", INTERRUPTED)
    except click.UsageError as error:
        error.show()
        return USED_WRONGLY
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except AnimationError as error:
        return _fail(str(error))


def _fail(message: str, code: int = FAILED) -> int:
    sys.stderr.write(f"mirrorme: {message}\n")
    return code
