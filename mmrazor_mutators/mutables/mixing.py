"""The weighted sum of candidates: where a search spends its time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from ..sharing import run_candidate
from ..typing import Mixture

__all__ = ['mix']


def mix(modules: Sequence[nn.Module], inputs: Sequence[Tensor], mixture: Mixture) -> Tensor:
    r"""Mix the outputs of candidates: :math:`\sum_i w_i\, o_i(x_i)`.

    A candidate that declares ``is_zero`` is not run, since its product is
    known.  With ``mixture.paths`` only those candidates run.  Every other one
    has the weight 0 and adds nothing but the gradient of that weight, as if
    its output were 1 (GDAS, Dong & Yang 2019, section 3.2).  Those in
    ``mixture.silent`` run without a graph of their own, which makes that
    gradient exact.

    Args:
        modules: One candidate per choice.
        inputs: The input of each candidate.
        mixture: Weights of shape ``(num_choices,)``, and the paths to run.

    >>> import torch
    >>> x = torch.tensor([[1.0, -2.0]])
    >>> mixture = Mixture(torch.tensor([0.25, 0.75]))
    >>> mix([nn.Identity(), nn.ReLU()], [x, x], mixture)
    tensor([[ 1.0000, -0.5000]])
    """
    weights = mixture.weights.unbind()
    everything = range(len(modules))
    paths = everything if mixture.paths is None else mixture.paths
    zeros = {i for i in everything if getattr(modules[i], 'is_zero', False)}
    # Where all that runs is zero, one of them still has to give the shape.
    live = [i for i in paths if i not in zeros] or list(paths)[:1]
    terms = (run_candidate(modules[i], inputs[i], weights[i]) for i in live)
    total = reduce(_accumulate, terms)
    for i in mixture.silent:
        if i not in zeros:
            with torch.no_grad():
                output = run_candidate(modules[i], inputs[i])
            total = _accumulate(total, weights[i] * output)
    if not mixture.weights.requires_grad:
        return total
    bare = [weights[i] for i in everything if i not in paths and i not in mixture.silent]
    if not bare:
        return total
    lent = reduce(add, bare)
    return total + (lent - lent.detach())


def _accumulate(total: Tensor, term: Tensor) -> Tensor:
    """Return ``total + term``; ``total`` is a new tensor that nobody else needs."""
    alike = total.shape == term.shape and total.dtype == term.dtype
    return total.add_(term) if alike else total + term
