"""The state of all generators of random numbers that a training draws from."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from ..search.guards import get_rng_state, set_rng_state

__all__ = ['random_state', 'set_random_state']


def random_state() -> dict[str, Any]:
    """Return the state of the generators of torch, NumPy and Python, as a checkpoint holds it.

    >>> state = random_state()
    >>> first = random.random(), np.random.rand(), torch.rand(()).item()
    >>> set_random_state(state)
    >>> first == (random.random(), np.random.rand(), torch.rand(()).item())
    True
    """
    state: Any = np.random.get_state()
    kind, keys, *rest = state
    # PyTorch saves no unsigned numbers of 32 bits in all of its versions.
    return {
        'torch': get_rng_state(),
        'numpy': (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
        'python': random.getstate(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Set what :func:`random_state` returned."""
    kind, keys, *rest = state['numpy']
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))
    random.setstate(state['python'])
    of_torch = {
        name: value.cpu() if name == 'cpu' else [entry.cpu() for entry in value]
        for name, value in state['torch'].items()
    }
    set_rng_state(of_torch)
