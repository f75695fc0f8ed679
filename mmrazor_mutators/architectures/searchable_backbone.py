"""A stem and stages of blocks of which each can be searched for: what backbones share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..checks import check_count
from ..errors import ConfigError
from ..host import BaseModule
from ..mutables import Placeholder
from ..recomputation import Recomputed
from ..typing import ConfigDict
from .inputs import check_images

__all__ = ['SearchableBackbone', 'one_shot', 'place_blocks']


class SearchableBackbone(BaseModule):
    """A stem ``conv1`` and stages; a stage is one layer or a sequence of placeholders.

    A subclass builds ``conv1`` and the stages, then calls :meth:`_check_stages`.

    Args:
        widen_factor: What the channels of every stage are multiplied by, above 0.
        norm_eval: Whether batch norms keep their running statistics in training
            mode and normalise by them.
        with_cp: Whether the maps inside of a block are computed again in the
            backward pass instead of being kept.
        in_channels: Channels of the images.
        init_cfg: As for the host's ``BaseModule``.

    Attributes:
        out_channels: Channels of the last map that is returned.

    Raises:
        ConfigError: An argument out of its range.
    """

    conv1: nn.Module
    out_indices: tuple[int, ...]
    frozen_stages: int
    out_channels: int

    def __init__(
        self,
        widen_factor: float,
        norm_eval: bool,
        with_cp: bool,
        in_channels: int,
        init_cfg: Any | None,
    ) -> None:
        if isinstance(init_cfg, (list, tuple)):
            # A checkpoint in a list does not outlive the initialisation of mmcv 1.x.
            init_cfg = init_cfg[0] if len(init_cfg) == 1 else list(init_cfg)
        super().__init__(init_cfg)
        if not isinstance(widen_factor, (int, float)) or not 0 < widen_factor < float('inf'):
            raise ConfigError(
                f'Expected `widen_factor` to be a number above 0, but got {widen_factor!r}'
            )
        self.widen_factor = widen_factor
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.in_channels = check_count('in_channels', in_channels)

    @property
    @abstractmethod
    def stages(self) -> list[nn.Module]:
        """The stages in their order."""

    @property
    @abstractmethod
    def default_placeholder_mapping(self) -> dict[str, dict[str, Any]]:
        """A fresh ``{group: config of a mutable}`` for this backbone."""

    def _check_stages(
        self, out_indices: Sequence[int] | None, frozen_stages: int, channels: Sequence[int]
    ) -> None:
        """Take over the arguments that the number of stages limits.

        Args:
            out_indices: Which stages are returned, ``None`` for the last.
            frozen_stages: How many stages do not learn; -1 lets the stem learn too.
            channels: Of every stage.
        """
        last = len(channels) - 1
        indices = (last,) if out_indices is None else tuple(out_indices)
        if not indices or list(indices) != sorted(set(indices).intersection(range(last + 1))):
            raise ConfigError(
                f'Expected `out_indices` to be ascending indices of stages from 0 to {last}, '
                f'but got {out_indices!r}'
            )
        if check_count('frozen_stages', frozen_stages, minimum=-1) > last + 1:
            raise ConfigError(
                f'Expected `frozen_stages` to be at most {last + 1}, the number of stages, but '
                f'got {frozen_stages!r}'
            )
        self.out_indices = indices
        self.frozen_stages = frozen_stages
        self.out_channels = channels[indices[-1]]
        self._freeze_stages()

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        for part in (self.conv1, *self.stages[: self.frozen_stages]):
            part.eval()
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> SearchableBackbone:
        """Change the mode; what is frozen stays in eval mode and does not learn.

        Blocks that took the place of a placeholder freeze here as well, so that
        it is to be called after ``prepare_from_supernet``; every runner does.
        """
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def example_inputs(self) -> Tensor:
        """Return an image of the size that the space was made for, to count costs with."""
        return torch.zeros(1, self.in_channels, 224, 224)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of ``out_indices``; what comes after the last is not run.

        Args:
            images: Shape ``(N, in_channels, H, W)``.

        Raises:
            InputError: Images of another shape.
        """
        check_images(images, self.in_channels, min_size=1)
        x = self.conv1(images)
        outs = []
        for i, stage in enumerate(self.stages[: self.out_indices[-1] + 1]):
            for block in stage if isinstance(stage, nn.Sequential) else (stage,):
                x = Recomputed(block, block)(x) if self.with_cp else block(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)


def place_blocks(
    group: str, stage: int, in_channels: int, out_channels: int, num_blocks: int, stride: int
) -> nn.Sequential:
    """Return the placeholders of a stage, of which the first has the stride.

    Their spaces are ``stage_{stage}_block_{i}``.

    >>> stage = place_blocks('blocks', 1, 8, 16, num_blocks=2, stride=2)
    >>> [block.placeholder_kwargs['choice_args']['in_channels'] for block in stage]
    [8, 16]
    """
    return nn.Sequential(
        *[
            Placeholder(
                group=group,
                space_id=f'stage_{stage}_block_{i}',
                choice_args={
                    'in_channels': out_channels if i else in_channels,
                    'out_channels': out_channels,
                    'stride': 1 if i else stride,
                },
            )
            for i in range(num_blocks)
        ]
    )


def one_shot(choices: Mapping[str, ConfigDict]) -> dict[str, Any]:
    """Return the config of a choice of which one runs at a time."""
    return {'type': 'OneShotOP', 'choices': dict(choices)}
