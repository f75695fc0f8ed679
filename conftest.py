"""What holds for every run of the tests, those in docstrings included."""

from __future__ import annotations

import os
import signal

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Say how tests are shared among processes, where there are several."""
    # Processes that tests start would compile the whole package anew, each of them.
    os.environ.pop('PYTHONDONTWRITEBYTECODE', None)
    # Where the tests were started in the background, these are ignored, here and in processes
    # that tests start, so that no test of them could pass.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, 'SIGHUP') and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    option = config.option
    if getattr(option, 'maxworkerrestart', '0') is None:
        # End the run where a process crashed, instead of going on in a new one.
        option.maxworkerrestart = '0'
    if getattr(option, 'dist', 'no') == 'load':
        # The tests of a module stay together, so what they share is built once.
        option.dist = 'worksteal'
