"""What every test starts from: one thread, fixed seeds, and devices that exist."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

# Tests run in parallel processes, and some start others: one thread for each.
os.environ['OMP_NUM_THREADS'] = '1'

import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Start every test from the same random numbers."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


KERNEL_VARIANTS = {0: 'plain', 1: 'avx2', 2: 'avx512'}


@pytest.fixture(params=KERNEL_VARIANTS, ids=KERNEL_VARIANTS.get)
def variant(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run a test of the compiled kernels as processors of several ages would."""
    from mmrazor_mutators.kernels import native

    if native._library.kernels_use_variant(request.param) != request.param:
        native._library.kernels_use_variant(-1)
        pytest.skip('this processor cannot')
    yield
    native._library.kernels_use_variant(-1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked ``cuda`` where there is no CUDA device."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason='needs a CUDA device')
    for item in items:
        if 'cuda' in item.keywords:
            item.add_marker(skip)
