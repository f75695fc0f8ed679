"""What holds for every run of the tests, those in docstrings included."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """End the run where a worker process crashed, instead of going on in a new one."""
    if getattr(config.option, 'maxworkerrestart', '0') is None:
        config.option.maxworkerrestart = '0'
