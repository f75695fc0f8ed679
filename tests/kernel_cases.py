"""What the tests of the compiled kernels have in common; the fixture is in conftest.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import Tensor

from mmrazor_mutators.kernels import native

needs_kernels = pytest.mark.skipif(not native.available(), reason='the kernels were not built')
EXACT: dict[str, Any] = {'rtol': 1e-12, 'atol': 1e-12}
often = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def last(x: Tensor) -> Tensor:
    """Return a map with the channels of a pixel together."""
    return x.contiguous(memory_format=torch.channels_last)
