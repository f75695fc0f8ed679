"""Mutables that choose among values: widths, sizes of a kernel, numbers of heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..builder import MUTABLES
from ..errors import SearchSpaceError
from ..typing import Mixture, Relax
from .differentiable import DifferentiableMutable, sort_out

__all__ = ['DifferentiableValue', 'Masked']


@MUTABLES.register_module()
class DifferentiableValue(DifferentiableMutable):
    r"""A relaxed choice among 0/1 masks of one shape: returns :math:`x \sum_k w_k m_k`.

    Each value is what a mask leaves of ``x``: the first channels, the middle of a kernel, some
    heads.  So all values share their parameters, and a mixture costs one multiplication
    (FBNetV2, Wan et al., CVPR 2020, section 3.1).  ``x`` is a weight as a rule, whose mask is
    far cheaper than that of a map, with the same result.

    Where no mutator has lent an architecture parameter, the original value is used.

    Args:
        masks: ``{name: mask}``, tensors of 0 and 1 of one shape, which is that of the
            dimensions from ``dim`` on.
        original: Name of the value that the unchanged model has; it leaves all of ``x``.
        dim: The first dimension of ``x`` that the masks stand for.
        **kwargs: As for :class:`DifferentiableMutable`.

    Raises:
        SearchSpaceError: No masks, masks of different shapes or with other values than 0 and
            1, or an ``original`` that is none of them.

    >>> masks = {'w1': torch.tensor([1, 0]), 'w2': torch.tensor([1, 1])}
    >>> value = DifferentiableValue(masks, original='w2', space_id='a')
    >>> x = torch.ones(1, 2)
    >>> value(x), value(x, arch_param=torch.zeros(2))
    (tensor([[1., 1.]]), tensor([[1.0000, 0.5000]]))
    """

    masks: Tensor

    def __init__(
        self,
        masks: Mapping[str, Tensor | Sequence[Any]],
        original: str,
        dim: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(original=original, **kwargs)
        if not isinstance(masks, Mapping) or not masks:
            raise SearchSpaceError(
                f'In space {self.space_id!r}: expected `masks` to be a non-empty mapping of '
                f'names to masks, but got {masks!r}'
            )
        tensors = {name: torch.as_tensor(mask).float() for name, mask in masks.items()}
        shapes = {name: tuple(mask.shape) for name, mask in tensors.items()}
        if len(set(shapes.values())) > 1:
            raise SearchSpaceError(
                f'In space {self.space_id!r}: expected masks of one shape, but got {shapes}'
            )
        for name, mask in tensors.items():
            if not ((mask == 0) | (mask == 1)).all() or not mask.any():
                raise SearchSpaceError(
                    f'In space {self.space_id!r}: expected the mask of {name!r} to hold 0 and '
                    f'1, and a 1 somewhere, but got {mask.tolist()}'
                )
        self.set_choice_names(tensors)
        self.dim = dim
        self._whole = frozenset(name for name, mask in tensors.items() if mask.all())
        # Not persistent: they follow from the constructor.
        self.register_buffer('masks', torch.stack(list(tensors.values())), persistent=False)

    def mask(self, arch_param: Tensor | None = None, relax: Relax | None = None) -> Tensor:
        """Return the mixed mask, in the shape of one of them.

        Args:
            arch_param: Logits, shape ``(num_choices,)``.
            relax: Turns them into a mixture.
        """
        return self._mixed(self.mixture(arch_param, relax))

    def _mixed(self, mixture: Mixture | None) -> Tensor:
        if mixture is None:
            return self.masks[self.full_choice_names.index(self.active_names[-1])]
        # In the precision of the weights, whatever that of the masks is.
        weights = mixture.weights
        return (weights.reshape(-1, *[1] * (self.masks.dim() - 1)) * self.masks).sum(0)

    def forward(
        self,
        x: Tensor,
        *inputs: Any,
        arch_param: Tensor | None = None,
        relax: Relax | None = None,
    ) -> Tensor:
        """Return ``x`` times the mixed mask.

        Args:
            x: Any shape with the masks' from ``dim`` on; further dimensions may follow.
            *inputs: Logits and relaxation may come by position.
            arch_param: Logits, shape ``(num_choices,)``; lent by the mutator.
            relax: Turns them into a mixture; lent by the mutator.
        """
        _, arch_param, relax = sort_out(self, inputs, arch_param, relax)
        mixture = self.mixture(arch_param, relax)
        if mixture is None and self.active_names[-1] in self._whole:
            return x  # Not a copy: without a trace, code may ask whether a weight can learn.
        mask = self._mixed(mixture)
        trailing = x.dim() - self.dim % x.dim() - mask.dim()
        return x * mask.to(x.dtype).reshape(*mask.shape, *[1] * trailing)

    def plain(
        self, chosen: Sequence[str], duplicate: Callable[[nn.Module], nn.Module]
    ) -> nn.Module:
        """Return the mask of the choice as a plain module."""
        index = self.full_choice_names.index(chosen[-1])
        return Masked(self.masks[index], self.dim)

    def extra_repr(self) -> str:
        """Show space and choices."""
        return f'{self.space_id!r}, {", ".join(self.choice_names)}'


class Masked(nn.Module):
    """Multiplies by a fixed mask: what stands for a :class:`DifferentiableValue` by itself.

    Args:
        mask: Of the dimensions from ``dim`` on.
        dim: The first of them.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, dim: int) -> None:
        super().__init__()
        self.register_buffer('mask', mask.clone(), persistent=False)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` times the mask."""
        trailing = x.dim() - self.dim % x.dim() - self.mask.dim()
        return x * self.mask.to(x.dtype).reshape(*self.mask.shape, *[1] * trailing)
