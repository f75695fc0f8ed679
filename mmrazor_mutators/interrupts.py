"""Ctrl-C while modules are imported, when nothing has begun that could be kept."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ['ending_at_once']


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let an interrupt end the process with one line and 130.

    An exception would not do: what is imported may take it for an import that
    failed, or lose it between Python and C.
    """
    # Whoever starts a process in the background of a shell has it ignore interrupts.
    default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not default or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(*_: Any) -> None:
    os.write(2, b'interrupted before anything had begun\n')
    os._exit(130)
