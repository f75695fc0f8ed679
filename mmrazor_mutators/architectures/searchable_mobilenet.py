"""MobileNetV2 whose blocks are searched for."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn

from ..checks import check_count
from ..errors import ConfigError
from ..functional import make_divisible
from ..ops.blocks import DEFAULT_NORM
from ..ops.conv_module import build_conv_module
from ..registry import ARCHITECTURES
from ..typing import ConfigDict
from .searchable_backbone import SearchableBackbone, one_shot, place_blocks

__all__ = ['SearchableMobileNet']

_ACT: ConfigDict = {'type': 'ReLU6'}
_INIT: tuple[ConfigDict, ...] = (
    {'type': 'Kaiming', 'layer': ['Conv2d']},
    {'type': 'Constant', 'val': 1, 'layer': ['_BatchNorm', 'GroupNorm']},
)


@ARCHITECTURES.register_module()
class SearchableMobileNet(SearchableBackbone):
    """A stem, seven stages of searched blocks and a 1x1 convolution.

    MobileNetV2 (Sandler et al., CVPR 2018), table 2, or the widths of
    ProxylessNAS (Cai et al., ICLR 2019) for GPUs; searched as in Single Path
    One-Shot (Guo et al., ECCV 2020) with blocks of kernel size 3, 5 or 7 that
    widen 3 or 6 times, or with none.  Names and spaces are those of MMRazor
    v0.2.0: block ``j`` of stage ``i`` is space ``stage_{i}_block_{j}``, in the
    first stage of the group ``first_blocks``, elsewhere of
    ``searchable_blocks``.  The image is made 32 times smaller.

    The weights are initialised by ``init_weights``, which is to be called when
    the blocks are there, after ``prepare_from_supernet``.

    Args:
        first_channels: Channels of the stem.
        last_channels: Channels of the last convolution; a ``widen_factor``
            below 1 does not make them fewer.
        widen_factor: What all channels are multiplied by, above 0; then they
            are made divisible by 8.
        out_indices: Stages whose maps are returned, ascending, from 0 to 7, the
            last convolution; by default only that.
        frozen_stages: How many of the stages do not learn; 0 freezes the stem
            alone, -1 nothing.
        conv_cfg: Config of the convolutions, ``None`` for ``nn.Conv2d``.
        norm_cfg: Config of the norms, or ``None`` for none.
        act_cfg: Config of the activations, or ``None`` for none.
        norm_eval: Whether batch norms keep their running statistics in training
            mode and normalise by them.
        with_cp: Whether the maps inside of a block are computed again in the
            backward pass instead of being kept.
        arch_setting_type: ``'original'`` or ``'proxyless_gpu'``.
        init_cfg: As for the host's ``BaseModule``.
        in_channels: Channels of the images.

    Attributes:
        arch_settings_dict: ``{arch_setting_type: stages}``, a stage being its
            channels, its number of blocks and its stride.
        out_channels: Channels of the last map that is returned.

    Raises:
        ConfigError: An argument out of its range.

    By default one block of a place runs at a time.  With weighed blocks
    instead, for a differentiable search:

    >>> backbone = SearchableMobileNet(widen_factor=0.25, last_channels=64)
    >>> mapping = backbone.default_placeholder_mapping
    >>> mapping['searchable_blocks']['type'] = 'DifferentiableOP'
    >>> list(mapping['searchable_blocks']['choices'])[:3], backbone.out_channels
    (['mb_k3e3', 'mb_k5e3', 'mb_k7e3'], 64)
    """

    arch_settings_dict: dict[str, list[list[int]]] = {
        'original': [
            [16, 1, 1],
            [24, 2, 2],
            [32, 3, 2],
            [64, 4, 2],
            [96, 3, 1],
            [160, 3, 2],
            [320, 1, 1],
        ],
        'proxyless_gpu': [
            [24, 1, 1],
            [32, 4, 2],
            [56, 4, 2],
            [112, 4, 2],
            [128, 4, 1],
            [256, 4, 2],
            [432, 1, 1],
        ],
    }

    def __init__(
        self,
        first_channels: int = 32,
        last_channels: int = 1280,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        conv_cfg: ConfigDict | None = None,
        norm_cfg: ConfigDict | None = DEFAULT_NORM,
        act_cfg: ConfigDict | None = _ACT,
        norm_eval: bool = False,
        with_cp: bool = False,
        arch_setting_type: str = 'original',
        init_cfg: Any | None = _INIT,
        in_channels: int = 3,
    ) -> None:
        super().__init__(widen_factor, norm_eval, with_cp, in_channels, init_cfg)
        check_count('first_channels', first_channels)
        check_count('last_channels', last_channels)
        if arch_setting_type not in self.arch_settings_dict:
            raise ConfigError(
                'Expected `arch_setting_type` to be '
                f'{" or ".join(map(repr, self.arch_settings_dict))}, but got '
                f'{arch_setting_type!r}'
            )
        self.arch_settings = self.arch_settings_dict[arch_setting_type]
        self._op_cfg: dict[str, Any] = {
            'conv_cfg': None if conv_cfg is None else dict(conv_cfg),
            'norm_cfg': None if norm_cfg is None else dict(norm_cfg),
            'act_cfg': None if act_cfg is None else dict(act_cfg),
        }
        channels = make_divisible(first_channels * widen_factor, 8)
        self.conv1 = build_conv_module(in_channels, channels, 3, stride=2, **self._op_cfg)
        self.layers = []
        widths = []
        for i, (width, num_blocks, stride) in enumerate(self.arch_settings):
            previous, channels = channels, make_divisible(width * widen_factor, 8)
            group = 'searchable_blocks' if i else 'first_blocks'
            layer = place_blocks(group, i, previous, channels, num_blocks, stride)
            self.add_module(f'layer{i + 1}', layer)
            self.layers.append(f'layer{i + 1}')
            widths.append(channels)
        widths.append(int(last_channels * max(widen_factor, 1.0)))
        self.conv2 = build_conv_module(channels, widths[-1], **self._op_cfg)
        self.layers.append('conv2')
        self._check_stages(out_indices, frozen_stages, widths)

    @property
    def stages(self) -> list[nn.Module]:
        """The stages in their order, the last convolution included."""
        return [getattr(self, name) for name in self.layers]

    @property
    def default_placeholder_mapping(self) -> dict[str, dict[str, Any]]:
        """A fresh ``{group: config of a mutable}`` for this backbone."""

        def block(kernel_size: int, expand_ratio: int) -> dict[str, Any]:
            sizes = {'kernel_size': kernel_size, 'expand_ratio': expand_ratio}
            return {'type': 'MBBlock', **sizes, **copy.deepcopy(self._op_cfg)}

        choices = {f'mb_k{k}e{e}': block(k, e) for e in (3, 6) for k in (3, 5, 7)}
        skip = {**copy.deepcopy(self._op_cfg), 'act_cfg': None}
        choices['identity'] = {'type': 'Identity', **skip}
        return {
            'searchable_blocks': one_shot(choices),
            'first_blocks': one_shot({'mb_k3e1': block(3, 1)}),
        }
