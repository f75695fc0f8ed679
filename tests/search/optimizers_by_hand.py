"""One step of an optimizer, and its derivative, written out for single numbers.

Each function takes a weight, its gradient, the state before the step and the
options, and returns the new weight and the derivative of it with respect to the
gradient; torch broadcasts over the elements.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def sgd(
    w: Tensor, g: Tensor, state: dict[str, Any], options: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    sign = -1.0 if options['maximize'] else 1.0
    change, slope = sign * g + options['weight_decay'] * w, sign
    mu, buffer = options['momentum'], state.get('momentum_buffer')
    if mu:
        # The first buffer is the gradient itself: no dampening.
        share = 1.0 if buffer is None else 1.0 - options['dampening']
        new = share * change + (0.0 if buffer is None else mu * buffer)
        if options['nesterov']:
            change, slope = change + mu * new, slope * (1 + mu * share)
        else:
            change, slope = new, slope * share
    return w - options['lr'] * change, torch.full_like(w, -options['lr'] * slope)


def adam(
    w: Tensor,
    g: Tensor,
    state: dict[str, Any],
    options: dict[str, Any],
    *,
    decoupled: bool = False,
) -> tuple[Tensor, Tensor]:
    lr, (beta1, beta2), eps = options['lr'], options['betas'], options['eps']
    decay = options['weight_decay']
    start = w - lr * decay * w if decoupled else w
    g = g if decoupled else g + decay * w
    t = float(state.get('step', 0)) + 1
    m = beta1 * state.get('exp_avg', 0.0) + (1 - beta1) * g
    v = beta2 * state.get('exp_avg_sq', 0.0) + (1 - beta2) * g**2
    m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
    below = v_hat.sqrt() + eps
    dm = (1 - beta1) / (1 - beta1**t)
    dv = 2 * (1 - beta2) * g / (1 - beta2**t)
    slope = dm / below - m_hat / below**2 * dv / (2 * v_hat.sqrt())
    return start - lr * m_hat / below, -lr * slope


def adamw(
    w: Tensor, g: Tensor, state: dict[str, Any], options: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    return adam(w, g, state, options, decoupled=True)


def rmsprop(
    w: Tensor, g: Tensor, state: dict[str, Any], options: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    rho, eps, mu = options['alpha'], options['eps'], options['momentum']
    g = g + options['weight_decay'] * w
    v = rho * state.get('square_avg', 0.0) + (1 - rho) * g**2
    below = v.sqrt() + eps
    buffer = mu * state.get('momentum_buffer', 0.0) + g / below
    slope = 1 / below - g / below**2 * (1 - rho) * g / v.sqrt()
    return w - options['lr'] * buffer, -options['lr'] * slope


BY_HAND = {
    torch.optim.SGD: sgd,
    torch.optim.Adam: adam,
    torch.optim.AdamW: adamw,
    torch.optim.RMSprop: rmsprop,
}


def step_by_hand(optimizer: Any, grads: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return all weights after a step as one vector, and the derivative of each."""
    groups = [(param, group) for group in optimizer.param_groups for param in group['params']]
    results = [
        BY_HAND[type(optimizer)](param.detach(), grad, optimizer.state.get(param, {}), group)
        for (param, group), grad in zip(groups, grads, strict=True)
    ]
    return (
        torch.cat([value.reshape(-1) for value, _ in results]),
        torch.cat([slope.reshape(-1) for _, slope in results]),
    )
