"""Runs that several of these tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_runs


@pytest.fixture(scope='module')
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that was interrupted after its first epoch."""
    work_dir = tmp_path_factory.mktemp('stopped') / 'run'
    stop = '[{"type":"tiny_runs.StopAfter","epochs":1}]'
    changes = {'train_cfg__max_epochs': 2, 'custom_hooks': stop}
    assert tiny_runs.search(work_dir, **changes) == 130
    return work_dir
