"""The DARTS search space as a classifier that is ready to be searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..host import BaseModule
from ..ops.blocks import DEFAULT_ACT, DEFAULT_NORM
from ..registry import ARCHITECTURES
from ..typing import ConfigDict
from .darts_backbone import DartsBackbone
from .heads import ClassifierHead
from .inputs import select_candidates

__all__ = ['DARTS_OPERATIONS', 'DartsSupernet']

DARTS_OPERATIONS = (
    'none',
    'max_pool_3x3',
    'avg_pool_3x3',
    'skip_connect',
    'sep_conv_3x3',
    'sep_conv_5x5',
    'dil_conv_3x3',
    'dil_conv_5x5',
)
"""Names of the candidates, in the order of the authors' code."""

# Of the auxiliary head of the authors' code.
_AUX_CHANNELS, _AUX_OUT_CHANNELS = 128, 768


@ARCHITECTURES.register_module()
class DartsSupernet(BaseModule):
    """Image classifier over the DARTS search space.

    DARTS (Liu et al., ICLR 2019), section 3.1 and the authors' code, whose
    default initialisation (PyTorch's own) it keeps as well.  With the default
    arguments it is the network of the search.  What the authors retrain is
    ``base_channels=36, num_layers=20, auxiliary=True, drop_path=True,
    affine=True``, with a loss of
    ``loss(logits) + 0.4 * loss(auxiliary logits)``.

    Args:
        in_channels: Channels of the images.
        num_classes: Number of scores.
        base_channels: Channels of a node in the first cells.
        num_layers: Number of cells.
        num_nodes: Number of intermediate nodes of a cell.
        stem_multiplier: The stem has this many times ``base_channels``.
        auxiliary: Whether there is an auxiliary head at 2/3 of the depth.
        drop_path: Whether the candidates, the identity excepted, end in a drop
            path; it drops nothing until its ``drop_prob`` is set.
        affine: Whether the norms inside the cells have a scale and a shift.
            ``False`` is for the search.  ``True`` is for training a found
            network, in which the authors put no norm after a pooling.
        pool_norm: Whether a norm follows a pooling in the search, as in the authors' code;
            in that of GDAS on this space there is none.
        candidates: Some of :data:`DARTS_OPERATIONS`, or ``{name: op config}``
            in their place; by default all of them.
        act_cfg: Config of the activation at the inputs of a cell.
        norm_cfg: Config of all norms.
        init_cfg: As for the host's ``BaseModule``.

    Raises:
        ConfigError: An argument out of its range, or an unknown candidate.

    >>> supernet = DartsSupernet(in_channels=1, num_classes=10, num_layers=3)
    >>> mapping = supernet.default_placeholder_mapping
    >>> list(mapping['node']['choices'])[:3], mapping['node_edge']['num_chosen']
    (['none', 'max_pool_3x3', 'avg_pool_3x3'], 2)
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        base_channels: int = 16,
        num_layers: int = 8,
        num_nodes: int = 4,
        stem_multiplier: int = 3,
        auxiliary: bool = False,
        drop_path: bool = False,
        affine: bool = False,
        pool_norm: bool = True,
        candidates: Sequence[str] | Mapping[str, ConfigDict] | None = None,
        act_cfg: ConfigDict | None = DEFAULT_ACT,
        norm_cfg: ConfigDict | None = DEFAULT_NORM,
        init_cfg: Any | None = None,
    ) -> None:
        super().__init__(init_cfg)
        cell_norm_cfg = norm_cfg
        if norm_cfg is not None and not affine:
            cell_norm_cfg = {**norm_cfg, 'affine': False}
        pool_norm_cfg = cell_norm_cfg if pool_norm and not affine else None
        defaults = _default_candidates(cell_norm_cfg, pool_norm_cfg, drop_path)
        self._candidates = select_candidates(defaults, candidates)
        self.backbone = DartsBackbone(
            in_channels,
            base_channels,
            num_layers,
            num_nodes,
            stem_multiplier,
            auxliary=auxiliary,
            aux_channels=_AUX_CHANNELS,
            aux_out_channels=_AUX_OUT_CHANNELS,
            act_cfg=act_cfg,
            norm_cfg=cell_norm_cfg,
        )
        self.head = ClassifierHead(self.backbone.out_channels, num_classes)
        self.auxiliary_head: ClassifierHead | None = None
        if auxiliary:
            self.auxiliary_head = ClassifierHead(_AUX_OUT_CHANNELS, num_classes)

    @property
    def default_placeholder_mapping(self) -> dict[str, dict[str, Any]]:
        """A fresh ``{group: config of a mutable}`` for this supernet.

        Edges have no architecture parameter of their own: a node keeps the two
        whose best operation weighs most (section 2.4).
        """
        return {
            'node': {
                'type': 'DifferentiableOP',
                'with_arch_param': True,
                'choices': select_candidates(self._candidates, None),
            },
            'node_edge': {
                'type': 'DifferentiableEdge',
                'num_chosen': 2,
                'with_arch_param': False,
            },
        }

    def example_inputs(self) -> Tensor:
        """Return an image of the size that the space was made for, to count costs with."""
        return torch.zeros(1, self.backbone.in_channels, 32, 32)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits.

        Args:
            images: Shape ``(N, in_channels, H, W)``; H and W are at least 4.

        Returns:
            Shape ``(N, num_classes)``.

        Raises:
            InputError: Images of another shape.
        """
        outs, _ = self.backbone.run_cells(images, with_auxiliary=False)
        return self.head(outs[-1])

    def forward_with_auxiliary(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the logits and those of the auxiliary head.

        The latter are ``None`` without an auxiliary head and in eval mode.

        Args:
            images: Shape ``(N, in_channels, H, W)``; H and W are at least 4.

        Returns:
            Shape ``(N, num_classes)`` each.

        Raises:
            InputError: Images of another shape, or a single one while training.
        """
        outs, features = self.backbone.run_cells(images, with_auxiliary=self.training)
        logits = self.head(outs[-1])
        if features is None or self.auxiliary_head is None:
            return logits, None
        return logits, self.auxiliary_head(features)


def _default_candidates(
    norm_cfg: ConfigDict | None, pool_norm_cfg: ConfigDict | None, drop_path: bool
) -> dict[str, ConfigDict]:
    """Return the op configs of :data:`DARTS_OPERATIONS`."""
    norm = None if norm_cfg is None else dict(norm_cfg)
    pool_norm = None if pool_norm_cfg is None else dict(pool_norm_cfg)
    op_cfgs: tuple[dict[str, Any], ...] = (
        {'type': 'DartsZero'},
        {'type': 'DartsPoolBN', 'pool_type': 'max', 'norm_cfg': pool_norm},
        {'type': 'DartsPoolBN', 'pool_type': 'avg', 'norm_cfg': pool_norm},
        {'type': 'DartsSkipConnect', 'norm_cfg': norm},
        {'type': 'DartsSepConv', 'kernel_size': 3, 'norm_cfg': norm},
        {'type': 'DartsSepConv', 'kernel_size': 5, 'norm_cfg': norm},
        {'type': 'DartsDilConv', 'kernel_size': 3, 'norm_cfg': norm},
        {'type': 'DartsDilConv', 'kernel_size': 5, 'norm_cfg': norm},
    )
    for op_cfg in op_cfgs[1:]:
        op_cfg['use_drop_path'] = drop_path
    return dict(zip(DARTS_OPERATIONS, op_cfgs, strict=True))
