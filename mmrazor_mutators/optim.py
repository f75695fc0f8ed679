"""Optimizers for architecture parameters that torch does not have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from .errors import ConfigError
from .functional import exponentiated_gradient
from .registry import OPTIMIZERS

__all__ = ['ExponentiatedGradient']

_TOLERANCE = 1e-2
"""How far a sum may be from 1; the eighths and fifths of bfloat16 are this close."""


@OPTIMIZERS.register_module()
class ExponentiatedGradient(torch.optim.Optimizer):
    r"""Steps probabilities on the simplex: :math:`p_i \leftarrow p_i e^{-\eta g_i} / Z`.

    GAEA (Li et al., ICLR 2021), section 3 and the authors' code: mirror descent
    with the entropy as its mirror map, over the last dimension of each
    parameter.

    Args:
        params: Parameters on the simplex, each of shape ``(..., num_choices)``.
        lr: Step size :math:`\eta`, above 0.
        min_prob: As in the authors' code, smaller products of probability and factor are
            raised to this before they are normalised, so that no choice is out of reach
            for good; above 0, and less than the weight of a uniform choice.

    Raises:
        ConfigError: An option outside of its range, or a parameter that is not
            on the simplex.

    >>> p = torch.nn.Parameter(torch.tensor([0.5, 0.5]))
    >>> optimizer = ExponentiatedGradient([p], lr=1.0)
    >>> p.grad = torch.tensor([0.0, 1.0])
    >>> optimizer.step()
    >>> p.data
    tensor([0.7311, 0.2689])
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.1,
        min_prob: float = 1e-5,
    ) -> None:
        super().__init__(params, {'lr': lr, 'min_prob': min_prob})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take parameters on, if they are on the simplex.

        Raises:
            ConfigError: They are not, or an option is outside of its range.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if not group['lr'] > 0:
            raise ConfigError(f'Expected `lr` to be above 0, but got {group["lr"]!r}')
        for param in group['params']:
            self._check(param)
            if not 0 < group['min_prob'] < 1 / param.shape[-1]:
                raise ConfigError(
                    f'Expected `min_prob` to be above 0 and below 1/{param.shape[-1]}, the '
                    f'weight of a uniform choice, but got {group["min_prob"]!r}'
                )

    @staticmethod
    def _check(param: Tensor) -> None:
        """Refuse what is not on the simplex."""
        if param.ndim == 0 or not param.numel():
            raise ConfigError(
                'ExponentiatedGradient steps probabilities of shape (..., num_choices), but '
                f'got a parameter of shape {tuple(param.shape)}'
            )
        values = param.detach()
        sums = values.sum(-1).flatten()
        worst = float(sums[(sums - 1).abs().argmax()])
        least = float(values.min())
        if not (least >= 0 and abs(worst - 1) <= _TOLERANCE):
            raise ConfigError(
                'ExponentiatedGradient steps probabilities, which are at least 0 and sum up to '
                f'1, but got a parameter of shape {tuple(param.shape)} with the least entry '
                f'{least:g} and the sum {worst:g}; GAEAMutator has such parameters, other '
                'mutators have logits, for Adam or SGD'
            )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step with every parameter that has a gradient.

        Args:
            closure: Computes the loss anew, and its gradients.

        Returns:
            What ``closure`` returns.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group['params']:
                if param.grad is not None:
                    stepped = exponentiated_gradient(
                        param, param.grad, group['lr'], group['min_prob']
                    )
                    param.copy_(stepped)
        return loss
