"""The program: ``mmrazor-mutators``, and ``python -m mmrazor_mutators``."""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn

from .interrupts import ending_at_once

__all__ = ['run']


def run() -> NoReturn:
    """Run the command line, and end the process with what it returns."""
    with ending_at_once():
        from .cli import main
    code = main()
    if code == 130:
        # Python ends by the signal itself where an interrupt met code that was being
        # executed from a string; what has to be cleaned up is.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == '__main__':
    run()
