"""The five operations of NAS-Bench-201 (Dong & Yang, ICLR 2020, section 2.1).

All of them follow the authors' code, with one exception: there a convolution
has a bias where the norm after it has no affine parameters.  The norm takes
that bias away again, so it is left out here.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..kernels.mixed_edge import Term, TermKind, term_of_conv
from ..registry import OPS
from ..sharing import Open, Prologue, is_hooked
from ..typing import ConfigDict
from .base import BaseOP, check_choice, check_kernel_size
from .blocks import (
    DEFAULT_NORM,
    FactorizedReduce,
    StandardConv,
    strided_zeros,
)
from .fast_convs import PointwiseConv2d
from .fast_pools import AveragePool2d
from .rectified import RectifiedOP, before_norm, run_inside

__all__ = [
    'NasBench201AvgPool',
    'NasBench201Conv',
    'NasBench201SkipConnect',
    'NasBench201Zero',
]


@OPS.register_module()
class NasBench201Zero(BaseOP):
    """``none``: zeros of the shape that the other candidates put out.

    Args:
        **kwargs: As for :class:`BaseOP`.

    >>> import torch
    >>> NasBench201Zero(in_channels=2, out_channels=3, stride=2)(torch.rand(1, 2, 3, 3)).shape
    torch.Size([1, 3, 2, 2])
    """

    is_zero = True

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros, without a gradient to ``x``."""
        return strided_zeros(x, self.out_channels, self.stride)


@OPS.register_module()
class NasBench201SkipConnect(BaseOP):
    """``skip_connect``: the identity, or what fits the shape where it changes.

    At stride 2 that is a factorized reduction; at stride 1 a 1x1 convolution
    and a norm, without the ReLU.

    Args:
        norm_cfg: Config of the norm, or ``None`` for none.
        **kwargs: As for :class:`BaseOP`.

    Raises:
        ConfigError: A stride above 2, or stride 2 with ``out_channels`` below 2.

    >>> import torch
    >>> x = torch.rand(2, 4, 7, 8)
    >>> NasBench201SkipConnect(in_channels=4, out_channels=4)(x) is x
    True
    """

    def __init__(self, norm_cfg: ConfigDict | None = DEFAULT_NORM, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_choice('stride', self.stride, (1, 2))
        self.convert: nn.Module | None = None
        if self.stride == 2:
            self.convert = FactorizedReduce(
                self.in_channels, self.out_channels, norm_cfg=norm_cfg
            )
        elif self.in_channels != self.out_channels:
            self.convert = StandardConv(
                self.in_channels, self.out_channels, act_cfg=None, norm_cfg=norm_cfg
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` itself where its shape fits."""
        return x if self.convert is None else self.convert(x)

    def term(self) -> Term | None:
        """Tell the kernels that it is the identity."""
        return Term(TermKind.SAME) if self.convert is None else None


@OPS.register_module()
class NasBench201Conv(RectifiedOP):
    """``nor_conv_1x1`` and ``nor_conv_3x3``: ReLU, convolution, norm.

    Args:
        kernel_size: Odd; 1 and 3 in the paper.
        norm_cfg: Config of the norm, or ``None`` for none.
        **kwargs: As for :class:`BaseOP`.

    Raises:
        ConfigError: An even ``kernel_size``.

    >>> import torch
    >>> op = NasBench201Conv(kernel_size=3, in_channels=4, out_channels=6, stride=2)
    >>> op(torch.rand(2, 4, 7, 8)).shape
    torch.Size([2, 6, 4, 4])
    """

    entered = 'conv', 'conv.net'

    def __init__(
        self, kernel_size: int, norm_cfg: ConfigDict | None = DEFAULT_NORM, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.kernel_size = check_kernel_size(kernel_size)
        self.conv = StandardConv(
            self.in_channels, self.out_channels, kernel_size, self.stride, norm_cfg=norm_cfg
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolved map."""
        return self.conv(x)

    @property
    def first(self) -> nn.Module:
        """The ReLU."""
        return self.conv.net[0]

    def after_first(self, x: Tensor) -> Open:
        """Go on after the ReLU."""
        return before_norm(run_inside(self.conv.net, x), self.conv.net[-1])

    def term(self) -> Term | None:
        """Tell the kernels what all of it is."""
        net = self.conv.net
        act, conv, norm = net
        # Whatever inherits from these may do something else.
        known = type(act) is nn.ReLU and type(conv) in (nn.Conv2d, PointwiseConv2d)
        if not known or any(map(is_hooked, (self.conv, net, act, conv, norm))):
            return None
        return term_of_conv(conv, None if type(norm) is nn.Identity else norm)


@OPS.register_module()
class NasBench201AvgPool(BaseOP):
    """``avg_pool_3x3``: the mean over the pixels inside the map, without a norm.

    Where the channels differ, a 1x1 :class:`StandardConv` comes first.

    Args:
        norm_cfg: Config of the norm of that convolution, or ``None`` for none.
        **kwargs: As for :class:`BaseOP`.

    >>> import torch
    >>> op = NasBench201AvgPool(in_channels=1, out_channels=1, stride=2)
    >>> op(torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]]))
    tensor([[[[3.]]]])
    """

    def __init__(self, norm_cfg: ConfigDict | None = DEFAULT_NORM, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.preprocess: nn.Module | None = None
        if self.in_channels != self.out_channels:
            self.preprocess = StandardConv(
                self.in_channels, self.out_channels, norm_cfg=norm_cfg
            )
        self.pool = AveragePool2d(3, self.stride, padding=1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the pooled map."""
        return self.pool(x if self.preprocess is None else self.preprocess(x))

    def prologue(self) -> Prologue | None:
        """Share all of it."""
        if self.preprocess is not None or is_hooked(self.pool):
            return None
        return Prologue((type(self.pool), self.pool.kernel_size, self.stride), self.pool)

    def epilogue(self, pooled: Tensor) -> Tensor:
        """Return the pooled map."""
        return pooled

    def term(self) -> Term | None:
        """Tell the kernels what all of it is."""
        if self.preprocess is None and self.pool.is_plain and not is_hooked(self.pool):
            return Term(TermKind.POOLED)
        return None
