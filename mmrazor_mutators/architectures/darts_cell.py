"""The cell of the DARTS search space, with a placeholder wherever there is a choice."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..mutables import Placeholder
from ..ops.blocks import DEFAULT_ACT, DEFAULT_NORM, FactorizedReduce, StandardConv
from ..ops.concatenation import concatenate
from ..sharing import shared_work
from ..typing import ConfigDict

__all__ = ['DartsCell', 'DartsNode']


class DartsNode(nn.Module):
    """A node: the sum of chosen operations on chosen earlier nodes.

    The edges are one placeholder of group ``node_edge`` and space ``node_id``.
    Each holds a placeholder of group ``node`` for the operation on node ``i``,
    of space ``{node_id}_p{i}``.

    Args:
        node_id: Such as ``'normal_n2'``.
        num_prev_nodes: Number of earlier nodes, inputs of the cell included.
        channels: Channels of every node.
        num_downsample_nodes: How many of the earlier nodes, from the first on,
            are read with stride 2.

    Shapes:
        A list of ``num_prev_nodes`` maps of ``channels`` channels; returns one.
    """

    def __init__(
        self, node_id: str, num_prev_nodes: int, channels: int, num_downsample_nodes: int
    ) -> None:
        super().__init__()
        edges = nn.ModuleDict()
        for i in range(num_prev_nodes):
            edge_id = f'{node_id}_p{i}'
            operation = Placeholder(
                group='node',
                space_id=edge_id,
                choice_args={
                    'stride': 2 if i < num_downsample_nodes else 1,
                    'in_channels': channels,
                    'out_channels': channels,
                },
            )
            # The sequence is there for the checkpoints of MMRazor v0.2.0.
            edges.add_module(edge_id, nn.Sequential(operation))
        self.edges = Placeholder(group='node_edge', space_id=node_id, choices=edges)

    def forward(self, prev_nodes: Sequence[Tensor]) -> Tensor:
        """Return the sum over the edges."""
        return self.edges(prev_nodes)


class DartsCell(nn.Module):
    """A cell: two inputs, ``num_nodes`` nodes, and the concatenation of these.

    DARTS (Liu et al., ICLR 2019), section 2.1.

    Args:
        num_nodes: Number of intermediate nodes.
        channels: Channels of each.
        prev_channels: Channels of the cell before.
        prev_prev_channels: Channels of the cell before that.
        reduction: Whether this cell halves its inputs.
        prev_reduction: Whether the cell before did, so that the one before that
            is still twice as large.
        act_cfg: Config of the activation at the inputs.
        norm_cfg: Config of the norm at the inputs.

    Shapes:
        ``(N, prev_prev_channels, H', W')`` and ``(N, prev_channels, H, W)`` to
        ``(N, num_nodes * channels, H, W)``, halved and rounded up in a reduction.
    """

    # A search may recompute it in the backward pass, to save memory.
    is_cell = True

    def __init__(
        self,
        num_nodes: int,
        channels: int,
        prev_channels: int,
        prev_prev_channels: int,
        reduction: bool,
        prev_reduction: bool,
        act_cfg: ConfigDict | None = DEFAULT_ACT,
        norm_cfg: ConfigDict | None = DEFAULT_NORM,
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.num_nodes = num_nodes
        self.out_channels = num_nodes * channels
        preproc0 = FactorizedReduce if prev_reduction else StandardConv
        self.preproc0 = preproc0(
            prev_prev_channels, channels, act_cfg=act_cfg, norm_cfg=norm_cfg
        )
        self.preproc1 = StandardConv(
            prev_channels, channels, act_cfg=act_cfg, norm_cfg=norm_cfg
        )
        kind, num_downsample_nodes = ('reduce', 2) if reduction else ('normal', 0)
        self.nodes = nn.ModuleList(
            DartsNode(f'{kind}_n{depth}', depth, channels, num_downsample_nodes)
            for depth in range(2, num_nodes + 2)
        )

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        """Return the nodes of this cell, given the two cells before it."""
        states = [self.preproc0(s0), self.preproc1(s1)]
        with shared_work():
            for node in self.nodes:
                states.append(node(states))
        return concatenate(states[2:])
