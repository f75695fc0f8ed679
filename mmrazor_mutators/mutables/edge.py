"""Mutables that choose among the inputs of a node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..builder import MUTABLES
from ..errors import InputError, SearchSpaceError
from ..typing import Relax
from .differentiable import DifferentiableMutable, GumbelMutable, sort_out
from .modules import ModuleMutable
from .plain import SelectedSum

__all__ = ['DifferentiableEdge', 'GumbelEdge', 'MutableEdge']


class MutableEdge(ModuleMutable):
    """A choice among the inputs of a node, each with a module of its own.

    Args:
        choices: ``{name: module}``, one module per input, in their order.
        **kwargs: As for :class:`MutableModule`.

    Raises:
        SearchSpaceError: Choices that are not a non-empty mapping to modules.
    """

    def __init__(self, choices: nn.ModuleDict | Mapping[str, nn.Module], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._set_choices(self.build_choices(choices))

    def build_choices(self, cfg: nn.ModuleDict | Mapping[str, nn.Module]) -> nn.ModuleDict:
        """Return the choices, which are ready modules already."""
        modules = cfg.values() if isinstance(cfg, (Mapping, nn.ModuleDict)) else ()
        if not modules or not all(isinstance(module, nn.Module) for module in modules):
            raise SearchSpaceError(
                f'In space {self.space_id!r}: expected `choices` of an edge to be a non-empty '
                f'nn.ModuleDict or a mapping of names to modules, but got {cfg!r}'
            )
        return cfg if isinstance(cfg, nn.ModuleDict) else self._name_choices(cfg)

    def build_plain(self, choices: Mapping[str, nn.Module]) -> nn.Module:
        """Return the sum of the chosen inputs."""
        return SelectedSum(choices, [self.full_choice_names.index(name) for name in choices])

    def _check_inputs(self, prev_inputs: Sequence[Any]) -> None:
        if len(prev_inputs) != len(self.full_choice_names):
            raise InputError(
                f'In space {self.space_id!r}: expected one input for each of the '
                f'{len(self.full_choice_names)} choices {", ".join(self.full_choice_names)}, '
                f'but got {len(prev_inputs)}'
            )

    def _sum_active(self, prev_inputs: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        given = dict(zip(self.full_choice_names, prev_inputs, strict=True))
        inputs = [((given[name], *args), kwargs) for name in self.active_names]
        return self._run(self.active_names, inputs)


@MUTABLES.register_module()
class DifferentiableEdge(DifferentiableMutable, MutableEdge):
    r"""A relaxed choice among inputs: :math:`\sum_i w_i\, e_i(x_i)`.

    Without an architecture parameter the inputs are summed, and a mutator
    ranks them by the operations on them, as DARTS does (Liu et al., ICLR
    2019, section 2.4).

    Args:
        with_arch_param: Whether the space has an architecture parameter.
        **kwargs: As for :class:`MutableEdge`.

    >>> import torch
    >>> edge = DifferentiableEdge(
    ...     with_arch_param=False, space_id='n', choices={'a': nn.Identity(), 'b': nn.ReLU()}
    ... )
    >>> edge([torch.tensor([1.0]), torch.tensor([-1.0])])
    tensor([1.])
    """

    def forward(
        self,
        prev_inputs: Sequence[Any],
        *inputs: Any,
        arch_param: Tensor | None = None,
        relax: Relax | None = None,
        **kwargs: Any,
    ) -> Any:
        """Mix or sum the inputs.

        Args:
            prev_inputs: One tensor per choice, in the order of the choices,
                also after some of them were removed.
            *inputs: Further inputs of every choice.
            arch_param: Logits, shape ``(num_choices,)``; lent by the mutator.
            relax: Turns them into a mixture; lent by the mutator, by default
                :meth:`compute_arch_probs`.
            **kwargs: Further inputs of every choice, such as masks.

        Returns:
            What the choices return, a tensor or a structure of tensors, mixed leaf by leaf.

        Raises:
            BindingError: See :meth:`mixture`.
            InputError: Not one input for each choice, or choices whose outputs differ in
                structure or shape.
        """
        self._check_inputs(prev_inputs)
        inputs, arch_param, relax = sort_out(self, inputs, arch_param, relax)
        mixture = self.mixture(arch_param, relax)
        if mixture is None:
            return self._sum_active(prev_inputs, *inputs, **kwargs)
        given = [((x, *inputs), kwargs) for x in prev_inputs]
        return self._run(self.choice_names, given, mixture)


@MUTABLES.register_module()
class GumbelEdge(GumbelMutable, DifferentiableEdge):
    """A :class:`DifferentiableEdge` that draws its weights by the Gumbel trick.

    Args:
        tau: Temperature, above 0.
        hard: Whether the weights are one-hot with the soft gradient.
        **kwargs: As for :class:`DifferentiableEdge`.
    """
