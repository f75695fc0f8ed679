"""Signals end a run in order: the step is finished and saved, and the caller told."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ['Interrupted', 'Requests', 'listening', 'requests']

_NAMES = ('SIGINT', 'SIGTERM', 'SIGHUP')
_TOGETHER = 1.0
"""Seconds in which torchrun passes on what the terminal has sent to all processes already."""


class Interrupted(KeyboardInterrupt):
    """A signal has ended the run.

    Args:
        number: Of the signal.
        saved: What was written because of it, as a phrase; empty if nothing was.
    """

    def __init__(self, number: int, saved: str = '') -> None:
        self.number = number
        self.saved = saved
        name = signal.Signals(number).name
        super().__init__(f'ended by {name}; {saved or "what was written stays"}')


class Requests:
    """What signals have asked for.

    Attributes:
        number: The signal that has come; ``None`` as long as none has.
        in_steps: Whether the run takes steps, after each of which it looks
            here.  Elsewhere a signal ends it at once.
        ended: Whether a signal has ended the run at once.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.in_steps = False
        self.ended = False
        self._owner = os.getpid()
        self._since = 0.0

    def handle(self, number: int, frame: FrameType | None = None) -> None:
        """Note the first signal during steps; end the run at once at another.

        Raises:
            Interrupted: The run does not take steps, or a second signal.
        """
        if os.getpid() != self._owner:
            # A worker that loads data, which may be sent what its owner is sent.
            if self.number is not None:
                os._exit(128 + number)
            self.number = number
            return
        now = time.monotonic()
        if self.number is None:
            self.number, self._since = number, now
            if self.in_steps:
                return
        elif 'TORCHELASTIC_RUN_ID' in os.environ and now < self._since + _TOGETHER:
            return
        self.number, self.ended = number, True
        raise Interrupted(number)


requests = Requests()
"""Those of this process; replaced whenever :func:`listening` begins."""


@contextmanager
def listening() -> Iterator[Requests]:
    """Handle SIGINT, SIGTERM and SIGHUP inside of the block; later all is as before.

    A signal that is ignored, as by ``nohup``, stays ignored.  Only the main thread
    can handle signals; in others nothing is changed.
    """
    global requests
    outer, requests = requests, Requests()
    previous: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for name in _NAMES:
                number = getattr(signal, name, None)
                # None is a handler that was not set by Python.
                if number and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    previous[number] = signal.signal(number, requests.handle)
        yield requests
    except Exception as error:
        if requests.ended and requests.number:
            # What was interrupted has caught it, and raised an error of its own.
            raise Interrupted(requests.number) from error
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        requests = outer
