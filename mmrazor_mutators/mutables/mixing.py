"""The weighted sum of candidates: where a search spends its time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

from torch import Tensor, nn

from ..typing import Mixture

__all__ = ['mix']


def mix(modules: Sequence[nn.Module], inputs: Sequence[Tensor], mixture: Mixture) -> Tensor:
    r"""Mix the outputs of candidates: :math:`\sum_i w_i\, o_i(x_i)`.

    A candidate that declares ``is_zero`` is not run, since its product is
    known.  With ``mixture.paths`` only those candidates run, and every other
    one adds its bare weight: the sum is meant for straight-through weights,
    where that weight is 0 and carries nothing but a gradient (GDAS, Dong &
    Yang 2019, section 3.2).

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
    paths = range(len(modules)) if mixture.paths is None else mixture.paths
    # Where all that runs is zero, one of them still has to give the shape.
    live = [i for i in paths if not getattr(modules[i], 'is_zero', False)] or list(paths)[:1]
    terms = [weights[i] * modules[i](inputs[i]) for i in live]
    if mixture.paths is not None:
        terms += [weights[i] for i in range(len(modules)) if i not in mixture.paths]
    return reduce(add, terms)
