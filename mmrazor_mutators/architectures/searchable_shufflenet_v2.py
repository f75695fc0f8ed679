"""ShuffleNetV2 whose blocks are searched for."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..checks import check_count
from ..errors import ConfigError
from ..ops.blocks import DEFAULT_ACT, DEFAULT_NORM
from ..ops.conv_module import build_conv_module
from ..registry import ARCHITECTURES
from ..typing import ConfigDict
from .searchable_backbone import SearchableBackbone, one_shot, place_blocks

__all__ = ['SearchableShuffleNetV2']

_WIDTHS, _NUM_BLOCKS, _LAST_CHANNELS = (64, 160, 320, 640), (4, 4, 8, 4), 1024


@ARCHITECTURES.register_module()
class SearchableShuffleNetV2(SearchableBackbone):
    """A stem, four stages of searched blocks and a 1x1 convolution.

    Single Path One-Shot (Guo et al., ECCV 2020), table 1 and the authors' code:
    twenty blocks of ShuffleNetV2, each with kernel size 3, 5 or 7 or with three
    separable convolutions.  Names and spaces are those of MMRazor v0.2.0:
    block ``j`` of stage ``i`` is space ``stage_{i}_block_{j}`` of the group
    ``all_blocks``.  The image is made 32 times smaller.

    The weights are initialised by ``init_weights``, which is to be called when
    the blocks are there, after ``prepare_from_supernet``.

    Args:
        stem_multiplier: The stem has this many times 16 channels.
        widen_factor: What the channels of the stages are multiplied by, above 0.
        out_indices: Stages whose maps are returned, ascending, from 0 on; the
            last convolution comes after stage 3.  By default only the last.
        frozen_stages: How many of the stages do not learn; 0 freezes the stem
            alone, -1 nothing.
        with_last_layer: Whether there is a last convolution, of 1024 channels.
        conv_cfg: Config of the convolutions, ``None`` for ``nn.Conv2d``.
        norm_cfg: Config of the norms, or ``None`` for none.
        act_cfg: Config of the activations, or ``None`` for none.
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

    By default one block of a place runs at a time.  With weighed blocks
    instead, for a differentiable search:

    >>> backbone = SearchableShuffleNetV2(widen_factor=0.1, with_last_layer=False)
    >>> mapping = backbone.default_placeholder_mapping
    >>> mapping['all_blocks']['type'] = 'DifferentiableOP'
    >>> list(mapping['all_blocks']['choices']), backbone.out_channels
    (['shuffle_3x3', 'shuffle_5x5', 'shuffle_7x7', 'shuffle_xception'], 64)
    """

    def __init__(
        self,
        stem_multiplier: int = 1,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        with_last_layer: bool = True,
        conv_cfg: ConfigDict | None = None,
        norm_cfg: ConfigDict | None = DEFAULT_NORM,
        act_cfg: ConfigDict | None = DEFAULT_ACT,
        norm_eval: bool = False,
        with_cp: bool = False,
        in_channels: int = 3,
        init_cfg: Any | None = None,
    ) -> None:
        super().__init__(widen_factor, norm_eval, with_cp, in_channels, init_cfg)
        self._op_cfg: dict[str, Any] = {
            'conv_cfg': None if conv_cfg is None else dict(conv_cfg),
            'norm_cfg': None if norm_cfg is None else dict(norm_cfg),
            'act_cfg': None if act_cfg is None else dict(act_cfg),
        }
        widths = [round(width * widen_factor) for width in _WIDTHS]
        if widths[0] < 2:  # A block has two branches.
            raise ConfigError(
                f'Expected `widen_factor` to leave 2 of {_WIDTHS[0]} channels, but got '
                f'{widen_factor!r}'
            )
        stem_channels = 16 * check_count('stem_multiplier', stem_multiplier)
        self.conv1 = build_conv_module(in_channels, stem_channels, 3, stride=2, **self._op_cfg)
        self.layers = nn.ModuleList(
            place_blocks('all_blocks', i, previous, width, num_blocks, stride=2)
            for i, (previous, width, num_blocks) in enumerate(
                zip([stem_channels, *widths[:-1]], widths, _NUM_BLOCKS, strict=True)
            )
        )
        if with_last_layer:
            self.layers.append(build_conv_module(widths[-1], _LAST_CHANNELS, **self._op_cfg))
            widths.append(_LAST_CHANNELS)
        self._check_stages(out_indices, frozen_stages, widths)

    @property
    def stages(self) -> list[nn.Module]:
        """The stages in their order, the last convolution included."""
        return list(self.layers)

    @property
    def default_placeholder_mapping(self) -> dict[str, dict[str, Any]]:
        """A fresh ``{group: config of a mutable}`` for this backbone."""
        choices = {
            f'shuffle_{k}x{k}': {'type': 'ShuffleBlock', 'kernel_size': k} for k in (3, 5, 7)
        }
        choices['shuffle_xception'] = {'type': 'ShuffleXception'}
        return {
            'all_blocks': one_shot(
                {name: {**op, **copy.deepcopy(self._op_cfg)} for name, op in choices.items()}
            )
        }

    def init_weights(self) -> None:
        """Initialise as the authors do, unless a checkpoint is read.

        Weights of convolutions come from N(0, 0.01) in the stem, elsewhere from
        N(0, 1 / input channels of a group), both given as standard deviations;
        norms begin as ``x + 0.0001``.
        """
        is_first_time = not self.is_init
        super().init_weights()
        cfgs = [self.init_cfg] if isinstance(self.init_cfg, Mapping) else self.init_cfg or []
        if is_first_time and not any(cfg.get('type') == 'Pretrained' for cfg in cfgs):
            for name, module in self.named_modules():
                _init(module, is_stem=name.startswith('conv1'))


def _init(module: nn.Module, is_stem: bool) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.01 if is_stem else 1 / module.weight.shape[1])
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, (_BatchNorm, nn.GroupNorm)) and module.weight is not None:
        nn.init.ones_(module.weight)
        nn.init.constant_(module.bias, 0.0001)
