"""The weighted sum of candidates: where a search spends its time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn

from ..kernels.eager_sum import eager_sum
from ..kernels.fused_sum import BatchNorm, batch_norm_of, fused_sum, takes_map
from ..kernels.graph_nodes import is_plain
from ..kernels.mixed_edge import Term, mixed_edge
from ..kernels.native import available
from ..sharing import Begun, Open, begin, finish, is_hooked, leave_open, run_candidate
from ..structures import accumulate, lend_gradient, scale
from ..typing import Mixture
from .isolation import Call, Inputs, lend, note_changes

__all__ = ['WeightedSum', 'current_sum', 'mix', 'mix_calls', 'summing_with', 'weighted_sum']

WeightedSum = Callable[[Sequence[nn.Module], Sequence[Begun], Sequence[Tensor]], Tensor]
"""``(candidates, what they begin with, scalar weights) -> weighted sum of outputs``."""


class _Running(threading.local):
    weighted_sum: WeightedSum | None = None


_running = _Running()


@contextmanager
def summing_with(compute: WeightedSum | None) -> Iterator[None]:
    """Let ``compute`` make all weighted sums inside of the block, in this thread.

    Args:
        compute: ``None`` for the usual way, in one call as far as the kernels know it.
    """
    previous = _running.weighted_sum
    _running.weighted_sum = compute
    try:
        yield
    finally:
        _running.weighted_sum = previous


def current_sum() -> WeightedSum | None:
    """Return what :func:`summing_with` was given, for a recomputation of what runs now."""
    return _running.weighted_sum


def weighted_sum(
    modules: Sequence[nn.Module], begun: Sequence[Begun], weights: Sequence[Tensor]
) -> Tensor:
    """Return the weighted sum of what candidates make of what they have begun with.

    Maps that can be summed up at once are left open until all are there.
    """
    if len(modules) == 1 or not is_plain(*weights):
        return reduce(accumulate, map(finish, modules, begun, weights))
    opened = list(map(leave_open, modules, begun))
    norms = _joining(opened)
    total = None
    if len(norms) > 1:
        maps = [opened[k].map for k in norms]
        sum_up = fused_sum if available() else eager_sum
        total = sum_up(maps, list(norms.values()), [weights[k] for k in norms])
    if total is None:
        return reduce(accumulate, (part.close(weights[k]) for k, part in enumerate(opened)))
    rest = (k for k in range(len(opened)) if k not in norms)
    return reduce(accumulate, (opened[k].close(weights[k]) for k in rest), total)


def _joining(opened: list[Open]) -> dict[int, BatchNorm | None]:
    """Return which candidates can be summed up at once, and what normalises each.

    Args:
        opened: The candidates; one whose norm is beyond the kernel is closed.
    """
    found: dict[int, BatchNorm | None] = {}
    shape = None
    for k, (x, norm) in enumerate(opened):
        if not isinstance(x, Tensor) or not takes_map(x) or shape not in (None, x.shape):
            continue
        shape = x.shape
        found[k] = None if norm is None else batch_norm_of(norm, shape[1])
        if norm is not None and found[k] is None:
            opened[k] = Open(opened[k].close())
    return found


def mix(modules: Sequence[nn.Module], inputs: Sequence[Any], mixture: Mixture) -> Any:
    """Mix the outputs of candidates with one input each; see :func:`mix_calls`.

    >>> import torch
    >>> x = torch.tensor([[1.0, -2.0]])
    >>> mixture = Mixture(torch.tensor([0.25, 0.75]))
    >>> mix([nn.Identity(), nn.ReLU()], [x, x], mixture)
    tensor([[ 1.0000, -0.5000]])
    """
    return mix_calls(modules, [((x,), {}) for x in inputs], mixture)


def mix_calls(modules: Sequence[nn.Module], inputs: Sequence[Inputs], mixture: Mixture) -> Any:
    r"""Mix the outputs of candidates: :math:`\sum_i w_i\, o_i(x_i)`.

    A candidate that declares ``is_zero`` is not run, since its product is
    known.  With ``mixture.paths`` only those candidates run.  Every other one
    has the weight 0 and adds nothing but the gradient of that weight, as if
    its output were 1 (GDAS, Dong & Yang 2019, section 3.2).  Those in
    ``mixture.silent`` run without a graph of their own, which makes that
    gradient exact.

    Args:
        modules: One candidate per choice.
        inputs: The arguments of each candidate, ``(args, kwargs)``.
        mixture: Weights of shape ``(num_choices,)``, and the paths to run.

    Returns:
        What they return, a tensor or a structure of tensors, mixed leaf by leaf.

    Raises:
        Mismatch: Outputs that cannot be added up.
    """
    weights = mixture.weights.unbind()
    everything = range(len(modules))
    paths = everything if mixture.paths is None else mixture.paths
    zeros = {i for i in everything if getattr(modules[i], 'is_zero', False)}
    # Where all that runs is zero, one of them still has to give the shape.
    live = [i for i in paths if i not in zeros] or list(paths)[:1]
    silent = [i for i in mixture.silent if i not in zeros]
    running = [*live, *silent]

    compiled = _running.weighted_sum is not None
    lent = [lend(modules[i], inputs[i], compiled) for i in running]
    shown = lent[: len(live)]
    total = _mix_all([c.call for c in shown], [c.x for c in shown], [weights[i] for i in live])
    for i, (call, x, _) in zip(silent, lent[len(live) :], strict=True):
        with torch.no_grad():
            output = run_candidate(call, x)
        total = accumulate(total, scale(output, weights[i]))
    note_changes([modules[i] for i in running], lent)
    if not mixture.weights.requires_grad:
        return total
    bare = [weights[i] for i in everything if i not in paths and i not in mixture.silent]
    if not bare:
        return total
    return lend_gradient(total, reduce(add, bare))


def _mix_all(modules: Sequence[Any], inputs: Sequence[Any], weights: Sequence[Tensor]) -> Any:
    """Return the weighted sum of all candidates, in one call as far as a kernel knows them."""
    plain = not any(isinstance(module, Call) for module in modules)
    compute = _running.weighted_sum if plain else None
    terms = {} if compute else _terms(modules, inputs)
    sums: list[Tensor] = []
    if any(term.weight is not None for term in terms.values()):
        total = mixed_edge(inputs[0], list(terms.values()), [weights[k] for k in terms])
        if total is not None:
            sums.append(total)
    rest = [k for k in range(len(modules)) if not sums or k not in terms]
    if rest:
        begun = [begin(modules[k], inputs[k]) for k in rest]
        compute = compute or weighted_sum
        sums.append(compute([modules[k] for k in rest], begun, [weights[k] for k in rest]))
    return reduce(accumulate, sums)


def _terms(modules: Sequence[Any], inputs: Sequence[Tensor]) -> dict[int, Term]:
    """Return which candidates of the first one's source the kernels know, and as what."""
    found: dict[int, Term] = {}
    if not available():
        return found
    for k, module in enumerate(modules):
        if inputs[k] is inputs[0] and hasattr(module, 'term') and not is_hooked(module):
            term = module.term()
            if term is not None:
                found[k] = term
    return found
