"""Mutables that choose the operation on one input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..builder import MUTABLES, build_op
from ..errors import SearchSpaceError
from ..typing import ConfigDict, Relax
from .differentiable import DifferentiableMutable, GumbelMutable, sort_out
from .modules import ModuleMutable
from .plain import ParallelSum

__all__ = ['DifferentiableOP', 'GumbelOP', 'MutableOP', 'OneShotOP']


class MutableOP(ModuleMutable):
    """A choice among operations that all see the same input.

    Args:
        choices: ``{name: config of an op, or a ready module}``.
        choice_args: Arguments for every choice that is built from a config,
            such as ``in_channels``; they win over the config's own.
        **kwargs: As for :class:`MutableModule`.

    Raises:
        SearchSpaceError: Choices that are no mapping, empty, or neither
            config nor module.
    """

    def __init__(
        self,
        choices: Mapping[str, ConfigDict | nn.Module],
        choice_args: ConfigDict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._set_choices(self.build_choices(choices, choice_args))

    def build_choices(
        self,
        cfg: Mapping[str, ConfigDict | nn.Module],
        choice_args: ConfigDict | None = None,
    ) -> nn.ModuleDict:
        """Build every choice; neither argument is changed."""
        if not isinstance(cfg, (Mapping, nn.ModuleDict)) or not len(cfg):
            raise SearchSpaceError(
                f'In space {self.space_id!r}: expected `choices` to be a non-empty mapping of '
                f'names to op configs or modules, but got {cfg!r}'
            )
        choices = {}
        for name, choice in cfg.items():
            if not isinstance(choice, nn.Module):
                if not isinstance(choice, Mapping):
                    raise SearchSpaceError(
                        f'In space {self.space_id!r}: expected the choice {name!r} to be an op '
                        f'config or a module, but got {choice!r}'
                    )
                choice = build_op({**choice, **(choice_args or {})})
            choices[name] = choice
        return self._name_choices(choices)

    def build_plain(self, choices: Mapping[str, nn.Module]) -> nn.Module:
        """Return the chosen operation, or the sum of several."""
        return next(iter(choices.values())) if len(choices) == 1 else ParallelSum(choices)

    def _sum_active(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(self.active_names, [(args, kwargs)] * len(self.active_names))


@MUTABLES.register_module()
class OneShotOP(MutableOP):
    """A choice among operations of which the mask lets one run.

    Args:
        **kwargs: As for :class:`MutableOP`; ``num_chosen`` must be 1.

    Shapes:
        The arguments: whatever the choices take; returns what they return.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.num_chosen != 1:
            raise SearchSpaceError(
                f'In space {self.space_id!r}: expected `num_chosen` of a OneShotOP to be 1, '
                f'but got {self.num_chosen}'
            )

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Sum what the active choices make of the arguments; the first may be called ``x``."""
        if not inputs and 'x' in kwargs:
            inputs = (kwargs.pop('x'),)
        return self._sum_active(*inputs, **kwargs)


@MUTABLES.register_module()
class DifferentiableOP(DifferentiableMutable, MutableOP):
    r"""A relaxed choice among operations: :math:`\sum_i w_i\, o_i(x)`.

    DARTS (Liu et al., ICLR 2019), section 2.2.

    Args:
        with_arch_param: Whether the space has an architecture parameter.
        **kwargs: As for :class:`MutableOP`.

    >>> import torch
    >>> choices = {'skip': nn.Identity(), 'relu': nn.ReLU()}
    >>> op = DifferentiableOP(with_arch_param=True, space_id='a', choices=choices)
    >>> op(torch.tensor([[-2.0]]), arch_param=torch.tensor([0.0, 0.0]))
    tensor([[-1.]])
    """

    def forward(
        self,
        *inputs: Any,
        arch_param: Tensor | None = None,
        relax: Relax | None = None,
        **kwargs: Any,
    ) -> Any:
        """Mix the choices.

        Args:
            *inputs: The inputs of every choice; the first may come by the name ``x``.
            arch_param: Logits, shape ``(num_choices,)``; lent by the mutator.
            relax: Turns them into a mixture; lent by the mutator, by default
                :meth:`compute_arch_probs`.
            **kwargs: Further inputs of every choice by name, such as masks.

        Returns:
            What the choices return, a tensor or a structure of tensors, mixed leaf by leaf.

        Raises:
            BindingError: See :meth:`mixture`.
            InputError: Choices whose outputs differ in structure or shape, or logits or a
                relaxation that are none.
        """
        if not inputs and 'x' in kwargs:
            inputs = (kwargs.pop('x'),)
        further, arch_param, relax = sort_out(self, inputs[1:], arch_param, relax)
        inputs = (*inputs[:1], *further)
        mixture = self.mixture(arch_param, relax)
        if mixture is None:
            return self._sum_active(*inputs, **kwargs)
        return self._run(self.choice_names, [(inputs, kwargs)] * self.num_choices, mixture)


@MUTABLES.register_module()
class GumbelOP(GumbelMutable, DifferentiableOP):
    """A :class:`DifferentiableOP` that draws its weights by the Gumbel trick.

    Args:
        tau: Temperature, above 0.
        hard: Whether the weights are one-hot with the soft gradient.
        **kwargs: As for :class:`DifferentiableOP`.
    """
