"""A choice among operations that see a part of the channels alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from ..builder import MUTABLES
from ..errors import InputError, SearchSpaceError
from ..functional import rejoin_channels
from ..structures import describe
from ..typing import ConfigDict, Relax
from .op import DifferentiableOP

__all__ = ['PartialChannelOP', 'PartialChannels']


def _on_part(run: Callable[[Tensor], Tensor], x: Tensor, proportion: int) -> Tensor:
    """Run on the first ``1 / proportion`` of the channels, and shuffle the rest in."""
    if proportion == 1:
        return run(x)
    if not isinstance(x, Tensor) or x.dim() < 2:
        raise InputError(
            'Expected maps of shape (N, C, H, W), a part of whose channels can bypass the '
            f'operations, but got {describe(x)}'
        )
    count, rest = divmod(x.shape[1], proportion)
    if rest or not count:
        raise InputError(
            f'Expected channels that can be divided by the channel proportion {proportion}, '
            f'but got shape {tuple(x.shape)}'
        )
    part, bypass = x.split([count, x.shape[1] - count], dim=1)
    mixed = run(part)
    if not isinstance(mixed, Tensor) or mixed.dim() < 2 or mixed.shape[1] != count:
        raise InputError(
            f'Expected operations on {count} of {x.shape[1]} channels to return as many, but '
            f'got {describe(mixed)}'
        )
    return rejoin_channels(mixed, bypass)


class PartialChannels(nn.Module):
    """An operation on a part of the channels; the others bypass it.

    Args:
        op: The operation on ``C / channel_proportion`` channels.
        channel_proportion: At least 2.

    Shapes:
        As for :class:`PartialChannelOP`.

    >>> import torch
    >>> PartialChannels(nn.ReLU(), 2)(-torch.ones(1, 2, 1, 1)).flatten()
    tensor([ 0., -1.])
    """

    def __init__(self, op: nn.Module, channel_proportion: int) -> None:
        super().__init__()
        self.op = op
        self.channel_proportion = channel_proportion

    def forward(self, x: Tensor) -> Tensor:
        """Return all channels, shuffled."""
        return _on_part(self.op, x, self.channel_proportion)

    def extra_repr(self) -> str:
        """Show the proportion."""
        return f'channel_proportion={self.channel_proportion}'


@MUTABLES.register_module()
class PartialChannelOP(DifferentiableOP):
    r"""A relaxed choice among operations on a part of the channels.

    PC-DARTS (Xu et al., ICLR 2020), section 3.1, and the authors' code: with
    the first :math:`C / K` channels :math:`x_s`, and the others :math:`\bar x_s`
    after a 2x2 max pooling where the operations have stride 2,

    .. math::
        \mathrm{shuffle}_K\big(\big[\textstyle\sum_i w_i\, o_i(x_s),\ \bar x_s\big]\big)

    With :math:`K = 1` this is a :class:`DifferentiableOP`.  An odd size is
    rounded up by the pooling too, other than in the authors' code, which knows
    even ones.

    Args:
        choices: As for :class:`DifferentiableOP`.  Those that are built from a
            config get ``1 / K`` of its ``in_channels`` and ``out_channels``,
            which have to be equal; ready modules are for that many already.
        choice_args: As for :class:`DifferentiableOP`; the channels are those of
            the whole input.
        channel_proportion: :math:`K`, at least 1.
        **kwargs: As for :class:`DifferentiableOP`.

    Shapes:
        ``(N, C, H, W)`` to the same, or with half of H and W.

    Raises:
        SearchSpaceError: An illegal ``channel_proportion``, channels that it
            does not divide, or ``in_channels`` other than ``out_channels``.

    >>> import torch
    >>> op = PartialChannelOP(
    ...     {'relu': nn.ReLU()}, channel_proportion=2, space_id='a', with_arch_param=False
    ... )
    >>> op(-torch.ones(1, 4, 1, 1)).flatten()
    tensor([ 0., -1.,  0., -1.])
    """

    def __init__(
        self,
        choices: Mapping[str, ConfigDict | nn.Module],
        choice_args: ConfigDict | None = None,
        channel_proportion: int = 4,
        **kwargs: Any,
    ) -> None:
        where = f'In space {kwargs.get("space_id")!r}'
        if (
            not isinstance(channel_proportion, int)
            or isinstance(channel_proportion, bool)
            or channel_proportion < 1
        ):
            raise SearchSpaceError(
                f'{where}: expected `channel_proportion` to be an int of at least 1, but got '
                f'{channel_proportion!r}'
            )
        if isinstance(choices, Mapping):
            choices = {
                name: _partial_cfg(choice, choice_args, channel_proportion, where)
                for name, choice in choices.items()
            }
        super().__init__(choices=choices, **kwargs)
        self.channel_proportion = channel_proportion

    def forward(
        self,
        *inputs: Any,
        arch_param: Tensor | None = None,
        relax: Relax | None = None,
        **kwargs: Any,
    ) -> Any:
        """Mix the choices on the first channels, and shuffle the others in.

        Args:
            *inputs: The first has shape ``(N, C, H, W)``; C is a multiple of
                ``channel_proportion``.  It may come by the name ``x``.  All others go to
                every choice.
            arch_param: Logits, shape ``(num_choices,)``; lent by the mutator.
            relax: Turns them into a mixture; lent by the mutator, by default
                :meth:`compute_arch_probs`.
            **kwargs: Further inputs of every choice.

        Raises:
            InputError: Channels that cannot be divided, or choices that return
                another number of channels or another size than the input's,
                or half of it.
        """
        mix = super().forward
        x, *others = inputs if inputs else (kwargs.pop('x', None),)

        def run(part: Tensor) -> Tensor:
            return mix(part, *others, arch_param=arch_param, relax=relax, **kwargs)

        return _on_part(run, x, self.channel_proportion)

    def build_plain(self, choices: Mapping[str, nn.Module]) -> nn.Module:
        """Return the chosen operation with its bypass, or the sum of several."""
        op = super().build_plain(choices)
        if self.channel_proportion == 1:
            return op
        return PartialChannels(op, self.channel_proportion)

    def extra_repr(self) -> str:
        """Show the proportion."""
        return f'channel_proportion={self.channel_proportion}'


def _partial_cfg(
    choice: Any, choice_args: ConfigDict | None, proportion: int, where: str
) -> Any:
    """Return the config of a choice with its share of the channels."""
    if not isinstance(choice, Mapping):
        return choice
    cfg = {**choice, **(choice_args or {})}
    channels = {key: cfg[key] for key in ('in_channels', 'out_channels') if key in cfg}
    if proportion == 1 or not channels:
        return cfg
    if len(set(channels.values())) > 1:
        raise SearchSpaceError(
            f'{where}: expected `in_channels` and `out_channels` to be equal, since a part of '
            f'the channels bypasses the choices, but got {cfg["in_channels"]!r} and '
            f'{cfg["out_channels"]!r}'
        )
    for key, count in channels.items():
        if not isinstance(count, int) or count < 1 or count % proportion:
            raise SearchSpaceError(
                f'{where}: expected `{key}` to be a multiple of channel_proportion='
                f'{proportion}, but got {count!r}; change the channels of the network, or '
                '`channel_proportion`'
            )
        cfg[key] = count // proportion
    return cfg
