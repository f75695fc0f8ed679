"""The NAS-Bench-201 search space (Dong & Yang, ICLR 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_count
from ..host import BaseModule
from ..mutables import Placeholder, SelectedSum
from ..ops.blocks import DEFAULT_NORM, StandardConv, build_norm
from ..registry import ARCHITECTURES
from ..sharing import shared_work
from ..typing import ConfigDict
from .heads import ClassifierHead
from .inputs import check_images, select_candidates
from .nasbench201_string import NASBENCH201_OPERATIONS, NUM_NODES

__all__ = ['NasBench201Cell', 'NasBench201Reduction', 'NasBench201Supernet']


class NasBench201Cell(nn.Module):
    """Four nodes, each but the first the sum of an operation on every earlier one.

    Section 2.1, figure 1.  The operation from node ``j`` to node ``i`` is a
    placeholder of group ``node`` and space ``n{i}_p{j}``.  The sum itself is an
    optional one of group ``node_edge`` and space ``n{i}``, for mutators that
    weigh the inputs of a node; every input stays.

    Args:
        channels: Channels of every node.

    Shapes:
        ``(N, channels, H, W)`` to the same.
    """

    # A search may recompute it in the backward pass, to save memory.
    is_cell = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        choice_args = {'in_channels': channels, 'out_channels': channels, 'stride': 1}
        self.nodes = nn.ModuleDict()
        for i in range(1, NUM_NODES):
            edges = nn.ModuleDict()
            for j in range(i):
                edge_id = f'n{i}_p{j}'
                edges[edge_id] = Placeholder('node', edge_id, choice_args=choice_args)
            self.nodes[f'n{i}'] = Placeholder(
                group='node_edge',
                space_id=f'n{i}',
                choices=edges,
                num_chosen=i,
                default=SelectedSum(dict(edges.items()), range(i)),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the last node."""
        nodes = [x]
        with shared_work():
            for node in self.nodes.values():
                nodes.append(node(nodes))
        return nodes[-1]


class NasBench201Reduction(nn.Module):
    """The residual block between the stages: half the size, other channels.

    Section 2.1; two 3x3 :class:`StandardConv`, of which the first has stride 2,
    beside an average pooling and a 1x1 convolution.  An odd size is rounded up
    on both branches.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        norm_cfg: Config of the norms.

    Shapes:
        ``(N, in_channels, H, W)`` to ``(N, out_channels, H / 2, W / 2)``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm_cfg: ConfigDict | None = DEFAULT_NORM,
    ) -> None:
        super().__init__()
        self.conv_a = StandardConv(in_channels, out_channels, 3, 2, norm_cfg=norm_cfg)
        self.conv_b = StandardConv(out_channels, out_channels, 3, norm_cfg=norm_cfg)
        self.downsample = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both branches."""
        return self.downsample(x) + self.conv_b(self.conv_a(x))


@ARCHITECTURES.register_module()
class NasBench201Supernet(BaseModule):
    """Image classifier over the NAS-Bench-201 search space.

    Section 2.1 and the authors' code: a stem, three stages of ``num_cells``
    cells with a residual reduction between them, norm, ReLU, global pooling,
    linear classifier.  All cells share one space per edge, and every edge
    stays; the placeholders of group ``node_edge`` are sums unless the
    mutator's mapping has that group.  The cells' norms are affine or not, those
    outside are always.

    Args:
        in_channels: Channels of the images.
        num_classes: Number of scores.
        base_channels: Channels of the first stage; each stage doubles them.
        num_cells: Number of cells of each stage.
        affine: Whether the norms inside the cells have a scale and a shift:
            ``False`` for the search, ``True`` for training a found network.
        candidates: Some of :data:`NASBENCH201_OPERATIONS`, or ``{name: op
            config}`` in their place; by default all of them.
        norm_cfg: Config of all norms.
        init_cfg: As for the host's ``BaseModule``.

    Raises:
        ConfigError: An argument out of its range, or an unknown candidate.

    >>> supernet = NasBench201Supernet(in_channels=3, num_classes=10, num_cells=1)
    >>> list(supernet.default_placeholder_mapping['node']['choices'])
    ['none', 'skip_connect', 'nor_conv_1x1', 'nor_conv_3x3', 'avg_pool_3x3']
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        base_channels: int = 16,
        num_cells: int = 5,
        affine: bool = False,
        candidates: Sequence[str] | Mapping[str, ConfigDict] | None = None,
        norm_cfg: ConfigDict | None = DEFAULT_NORM,
        init_cfg: Any | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = check_count('in_channels', in_channels)
        check_count('base_channels', base_channels)
        check_count('num_cells', num_cells)
        cell_norm_cfg = norm_cfg
        if norm_cfg is not None and not affine:
            cell_norm_cfg = {**norm_cfg, 'affine': False}
        self._candidates = select_candidates(_default_candidates(cell_norm_cfg), candidates)

        channels = base_channels
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            build_norm(norm_cfg, channels),
        )
        self.cells = nn.ModuleList()
        for stage in range(3):
            if stage > 0:
                self.cells.append(NasBench201Reduction(channels, 2 * channels, norm_cfg))
                channels *= 2
            self.cells.extend(NasBench201Cell(channels) for _ in range(num_cells))
        self.last_act = nn.Sequential(build_norm(norm_cfg, channels), nn.ReLU(inplace=True))
        self.head = ClassifierHead(channels, num_classes)

    @property
    def default_placeholder_mapping(self) -> dict[str, dict[str, Any]]:
        """A fresh ``{group: config of a mutable}`` for this supernet."""
        return {
            'node': {
                'type': 'DifferentiableOP',
                'with_arch_param': True,
                'choices': select_candidates(self._candidates, None),
            },
        }

    def example_inputs(self) -> Tensor:
        """Return an image of the size that the space was made for, to count costs with."""
        return torch.zeros(1, self.in_channels, 32, 32)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits.

        Args:
            images: Shape ``(N, in_channels, H, W)``; H and W are at least 4.

        Returns:
            Shape ``(N, num_classes)``.

        Raises:
            InputError: Images of another shape.
        """
        check_images(images, self.in_channels, min_size=4)
        x = self.stem(images)
        for cell in self.cells:
            x = cell(x)
        return self.head(self.last_act(x))


def _default_candidates(norm_cfg: ConfigDict | None) -> dict[str, ConfigDict]:
    """Return the op configs of :data:`NASBENCH201_OPERATIONS`."""
    norm = None if norm_cfg is None else dict(norm_cfg)
    op_cfgs: tuple[ConfigDict, ...] = (
        {'type': 'NasBench201Zero'},
        {'type': 'NasBench201SkipConnect', 'norm_cfg': norm},
        {'type': 'NasBench201Conv', 'kernel_size': 1, 'norm_cfg': norm},
        {'type': 'NasBench201Conv', 'kernel_size': 3, 'norm_cfg': norm},
        {'type': 'NasBench201AvgPool', 'norm_cfg': norm},
    )
    return dict(zip(NASBENCH201_OPERATIONS, op_cfgs, strict=True))
