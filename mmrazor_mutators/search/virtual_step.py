"""The step that an optimizer would take, without taking it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from ..errors import ConfigError
from .wrapped_optimizers import bare

__all__ = ['pull_back', 'virtual_step']


def virtual_step(
    optimizer: Optimizer, params: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> list[Tensor]:
    r"""Return the weights that ``optimizer.step()`` would lead to.

    Neither the parameters nor the optimizer's state change.

    Args:
        optimizer: SGD, or any other of ``torch.optim`` that has a
            differentiable step (Adam, AdamW, RMSprop ...).
        params: The optimizer's parameters, in the order of its groups.
        grads: A gradient for each, or ``None`` where there is none.

    Returns:
        New tensors, differentiable with respect to ``grads``.  For SGD,
        :math:`w - \eta\,(\mu b + g + \lambda w)` with momentum buffer
        :math:`b` and weight decay :math:`\lambda` (DARTS, Liu et al., ICLR
        2019, equation 6, as its authors' code computes it), and dampening and
        Nesterov's rule where they are set.

    Raises:
        ConfigError: The step of this optimizer cannot be differentiated.

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> virtual_step(torch.optim.SGD([w], lr=0.1), [w], [torch.tensor([2.0])])
    [tensor([0.8000])]
    """
    optimizer = bare(optimizer)
    if isinstance(optimizer, SGD):
        return _sgd(optimizer, params, grads)
    if 'differentiable' not in optimizer.defaults:
        raise ConfigError(
            'A hypergradient of second order differentiates the step of the weight optimizer, '
            f'which {type(optimizer).__name__} does not support; use an optimizer of '
            "torch.optim such as SGD or Adam, or hypergradient='first_order'"
        )
    return _by_its_own_code(optimizer, params, grads)


def _sgd(
    optimizer: SGD, params: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> list[Tensor]:
    """Write the step of SGD out.

    Its own code, in differentiable mode, detaches the first momentum buffer.
    """
    grad_of = {id(p): g for p, g in zip(params, grads, strict=True)}
    stepped = {id(p): p.detach().clone() for p in params if grad_of[id(p)] is None}
    for group in optimizer.param_groups:
        moved = [p for p in group['params'] if grad_of[id(p)] is not None]
        # The first step of a momentum differs from those after it.
        for first in (True, False):
            part = [p for p in moved if (_momentum_of(optimizer, p) is None) == first]
            if part:
                state = [p.detach() for p in part], [_momentum_of(optimizer, p) for p in part]
                values = _SgdStep.apply(group, *state, *(grad_of[id(p)] for p in part))
                stepped.update(zip(map(id, part), values, strict=True))
    return [stepped[id(p)] for p in params]


def _momentum_of(optimizer: Optimizer, param: Tensor) -> Tensor | None:
    return optimizer.state.get(param, {}).get('momentum_buffer')


class _SgdStep(torch.autograd.Function):
    """Steps parameters that have all a momentum buffer, or all none, with few kernels."""

    @staticmethod
    def forward(
        ctx: Any,
        group: dict[str, Any],
        weights: list[Tensor],
        buffers: list[Tensor],
        *grads: Tensor,
    ) -> tuple[Tensor, ...]:
        change, momentum, share = list(grads), group['momentum'], 1.0
        if group['maximize']:
            change = list(torch._foreach_neg(change))
        if group['weight_decay'] != 0:
            change = list(torch._foreach_add(change, weights, alpha=group['weight_decay']))
        if momentum != 0:
            buffer = change
            if buffers[0] is not None:
                share = 1 - group['dampening']
                buffer = list(torch._foreach_mul(buffers, momentum))
                torch._foreach_add_(buffer, change, alpha=share)
            if group['nesterov']:
                share = 1 + momentum * share
                change = list(torch._foreach_add(change, buffer, alpha=momentum))
            else:
                change = buffer
        # It is linear in the gradient: this times it, and something else.
        ctx.factor = (1 if group['maximize'] else -1) * group['lr'] * share
        return tuple(torch._foreach_sub(weights, torch._foreach_mul(change, group['lr'])))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, *torch._foreach_mul(list(grads), ctx.factor)


def _by_its_own_code(
    optimizer: Optimizer, params: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> list[Tensor]:
    """Run the optimizer's step on copies of the parameters and of its state."""
    copies = {id(param): param.detach().clone() for param in params}
    groups: list[dict[str, Any]] = [
        {
            **group,
            'params': [copies[id(param)] for param in group['params']],
            # The fused and batched kernels cannot be differentiated.
            **{'differentiable': True, 'foreach': False, 'fused': False},
        }
        for group in optimizer.param_groups
    ]
    shadow = type(optimizer)(groups, lr=groups[0]['lr'], differentiable=True)  # type: ignore[call-arg]
    for param, grad in zip(params, grads, strict=True):
        copy = copies[id(param)]
        copy.grad = grad
        if param in optimizer.state:
            shadow.state[copy] = {
                key: value.clone() if isinstance(value, Tensor) else value
                for key, value in optimizer.state[param].items()
            }
    shadow.step()
    for copy in copies.values():
        copy.grad = None  # It would keep the graph alive in a cycle.
    return [copies[id(param)] for param in params]


def pull_back(
    stepped: Sequence[Tensor], grads: Sequence[Tensor | None], vector: Sequence[Tensor]
) -> list[Tensor]:
    """Multiply a vector by the transposed derivative of :func:`virtual_step`.

    Args:
        stepped: What :func:`virtual_step` returned.
        grads: The leaves that it was given.
        vector: A tensor for each parameter.

    Returns:
        A tensor for each parameter, zeros where there was no gradient.
    """
    moved = [(s, g, v) for s, g, v in zip(stepped, grads, vector, strict=True) if g is not None]
    outputs, leaves, vectors = map(list, zip(*moved, strict=True))
    products = iter(torch.autograd.grad(outputs, leaves, vectors))
    pulled = []
    for grad, value in zip(grads, vector, strict=True):
        product = torch.zeros_like(value) if grad is None else next(products)
        # An adaptive step has a kink where a gradient was 0 from the start.
        kink = product.isnan() & value.isfinite()
        pulled.append(product.masked_fill(kink, 0.0))
    return pulled
