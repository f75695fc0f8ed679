"""The stack of cells of the DARTS search space, as a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..checks import check_count
from ..errors import ConfigError
from ..host import BaseModule
from ..ops.blocks import DEFAULT_ACT, DEFAULT_NORM, build_norm
from ..registry import ARCHITECTURES
from ..typing import ConfigDict
from .darts_cell import DartsCell
from .heads import AuxiliaryModule
from .inputs import check_images

__all__ = ['DartsBackbone']


@ARCHITECTURES.register_module()
class DartsBackbone(BaseModule):
    """A stem and ``num_layers`` cells, of which those at 1/3 and 2/3 reduce.

    DARTS (Liu et al., ICLR 2019), section 3.1.1 and the authors' code.  A
    reduction halves the size (rounded up) and doubles the channels.  Cells of
    a kind share their spaces: ``normal_n2`` and ``reduce_n2`` choose the edges
    of a node (placeholder group ``node_edge``), ``normal_n2_p0`` the operation
    on one edge (group ``node``).

    The stem and the auxiliary module always have affine norms; the norms
    inside the cells are exactly what ``norm_cfg`` says.

    Args:
        in_channels: Channels of the images.
        base_channels: Channels of a node in the first cells.
        num_layers: Number of cells.
        num_nodes: Number of intermediate nodes of a cell.
        stem_multiplier: The stem has this many times ``base_channels``.
        out_indices: Cells whose outputs are returned, ascending, the last cell
            among them; by default only the last.
        auxliary: Whether the cell at 2/3 feeds an auxiliary module.
        aux_channels: Its inner channels, needed with ``auxliary``.
        aux_out_channels: Its output channels, needed with ``auxliary``.
        act_cfg: Config of the activation at the inputs of a cell.
        norm_cfg: Config of the norms at the inputs of a cell.
        init_cfg: As for the host's ``BaseModule``.

    Attributes:
        out_channels: Channels of the last cell.

    Raises:
        ConfigError: An argument out of its range.

    >>> backbone = DartsBackbone(in_channels=3, base_channels=4, num_layers=3, num_nodes=2)
    >>> [cell.reduction for cell in backbone.cells], backbone.out_channels
    ([False, True, True], 32)
    """

    def __init__(
        self,
        in_channels: int,
        base_channels: int,
        num_layers: int = 8,
        num_nodes: int = 4,
        stem_multiplier: int = 3,
        out_indices: Sequence[int] | None = None,
        auxliary: bool = False,
        aux_channels: int | None = None,
        aux_out_channels: int | None = None,
        act_cfg: ConfigDict | None = DEFAULT_ACT,
        norm_cfg: ConfigDict | None = DEFAULT_NORM,
        init_cfg: Any | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = check_count('in_channels', in_channels)
        self.base_channels = check_count('base_channels', base_channels)
        self.num_layers = check_count('num_layers', num_layers)
        self.num_nodes = check_count('num_nodes', num_nodes)
        self.stem_multiplier = check_count('stem_multiplier', stem_multiplier)
        self.out_indices = _check_out_indices(out_indices, num_layers)

        affine_norm_cfg = norm_cfg
        if norm_cfg is not None and 'affine' in norm_cfg:
            affine_norm_cfg = {**norm_cfg, 'affine': True}
        prev_channels = stem_multiplier * base_channels
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, prev_channels, 3, padding=1, bias=False),
            build_norm(affine_norm_cfg, prev_channels),
        )
        prev_prev_channels, channels = prev_channels, base_channels
        reductions = {num_layers // 3, 2 * num_layers // 3}
        self.min_size = 2 ** len(reductions)
        self.auxliary_indice = 2 * num_layers // 3 if auxliary else -1
        self.cells = nn.ModuleList()
        for i in range(num_layers):
            if i in reductions:
                channels *= 2
            cell = DartsCell(
                num_nodes,
                channels,
                prev_channels,
                prev_prev_channels,
                reduction=i in reductions,
                prev_reduction=i - 1 in reductions,
                act_cfg=act_cfg,
                norm_cfg=norm_cfg,
            )
            self.cells.append(cell)
            prev_prev_channels, prev_channels = prev_channels, cell.out_channels
            if i == self.auxliary_indice:
                self.auxliary_module = AuxiliaryModule(
                    prev_channels,
                    check_count('aux_channels', aux_channels),
                    check_count('aux_out_channels', aux_out_channels),
                    affine_norm_cfg,
                )
        self.out_channels = prev_channels

    def run_cells(
        self, images: Tensor, with_auxiliary: bool
    ) -> tuple[list[Tensor], Tensor | None]:
        """Return the outputs of ``out_indices``, and the auxiliary features or ``None``.

        Raises:
            InputError: See :meth:`forward`.
        """
        check_images(images, self.in_channels, self.min_size)
        outs, auxiliary = [], None
        s0 = s1 = self.stem(images)
        for i, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1)
            if i in self.out_indices:
                outs.append(s1)
            if i == self.auxliary_indice and with_auxiliary:
                auxiliary = self.auxliary_module(s1)
        return outs, auxiliary

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the feature maps, while training after the auxiliary features.

        Args:
            images: Shape ``(N, in_channels, H, W)``.

        Returns:
            One map per ``out_indices``; in training mode with ``auxliary``,
            before them a map of shape ``(N, aux_out_channels, 1, 1)``.

        Raises:
            InputError: Images of another shape, or smaller than the reductions
                can halve.
        """
        outs, auxiliary = self.run_cells(images, with_auxiliary=self.training)
        return tuple(outs) if auxiliary is None else (auxiliary, *outs)


def _check_out_indices(out_indices: Sequence[int] | None, num_layers: int) -> tuple[int, ...]:
    if out_indices is None:
        return (num_layers - 1,)
    indices = tuple(out_indices)
    ascending = sorted(set(indices).intersection(range(num_layers)))
    if list(indices) != ascending or num_layers - 1 not in indices:
        raise ConfigError(
            f'Expected `out_indices` to be ascending indices of cells that end with '
            f'{num_layers - 1}, the last of {num_layers}, but got {out_indices!r}'
        )
    return indices
