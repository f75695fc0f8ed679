"""The candidate operations of DARTS (Liu et al., ICLR 2019, section 3.1.1).

All follow the authors' code, which knows one number of channels per cell; each
says what it does where ``in_channels`` and ``out_channels`` differ.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..registry import OPS
from ..sharing import Open, Prologue, is_hooked
from ..typing import ConfigDict
from .base import BaseOP, check_choice, check_kernel_size
from .batch_norm import follow_batch, normalize_by_batch, normalizes_by_batch
from .blocks import (
    DEFAULT_NORM,
    StandardConv,
    build_drop_path,
    build_norm,
    factorized_convs,
    factorized_reduce,
    separable_conv,
    strided_zeros,
)
from .fast_pools import AveragePool2d
from .rectified import RectifiedOP, before_norm

__all__ = ['DartsDilConv', 'DartsPoolBN', 'DartsSepConv', 'DartsSkipConnect', 'DartsZero']


@OPS.register_module()
class DartsPoolBN(BaseOP):
    """Max or average pooling, then a norm.

    The border counts for nothing: the maximum and the mean are taken over the
    pixels inside the map.  The search has a norm without affine parameters
    here, the network retrained by the authors has none (``norm_cfg=None``).
    Where the channels differ, a 1x1 :class:`StandardConv` comes first, as in the
    pooling of NAS-Bench-201.

    Args:
        pool_type: ``'max'`` or ``'avg'``.
        kernel_size: Odd.
        norm_cfg: Config of the norm, or ``None`` for none.
        use_drop_path: Whether a drop path follows.
        **kwargs: As for :class:`BaseOP`.

    Raises:
        ConfigError: Another ``pool_type``, or an even ``kernel_size``.

    >>> import torch
    >>> pool = DartsPoolBN('avg', norm_cfg=None, in_channels=1, out_channels=1, stride=2)
    >>> pool(torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]]))
    tensor([[[[3.]]]])
    """

    def __init__(
        self,
        pool_type: str,
        kernel_size: int = 3,
        norm_cfg: ConfigDict | None = DEFAULT_NORM,
        use_drop_path: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel_size = check_kernel_size(kernel_size)
        self.preprocess: nn.Module | None = None
        if self.in_channels != self.out_channels:
            self.preprocess = StandardConv(
                self.in_channels, self.out_channels, norm_cfg=norm_cfg
            )
        padding = kernel_size // 2
        self.pool: nn.Module
        if check_choice('pool_type', pool_type, ('max', 'avg')) == 'max':
            self.pool = nn.MaxPool2d(kernel_size, self.stride, padding)
        else:
            self.pool = AveragePool2d(
                kernel_size, self.stride, padding, count_include_pad=False
            )
        self.bn = build_norm(norm_cfg, self.out_channels)
        self.drop_path = build_drop_path(use_drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Return the norm of the pooled map."""
        x = x if self.preprocess is None else self.preprocess(x)
        return self.drop_path(self.bn(self.pool(x)))

    def prologue(self) -> Prologue | None:
        """Share the pooled map; while training, its norm without parameters too."""
        if self.preprocess is not None or is_hooked(self.pool):
            return None
        key, bn = (type(self.pool), self.kernel_size, self.stride), self.bn
        if normalizes_by_batch(bn):
            return Prologue((*key, bn.eps), lambda x: normalize_by_batch(self.pool(x), bn))
        return Prologue(key, lambda x: (self.pool(x), None))

    def epilogue(self, shared: tuple[Tensor, Any]) -> Tensor:
        """Go on from the map, which is normalised already if its moments are known."""
        pooled, moments = shared
        if moments is None:
            return self.drop_path(self.bn(pooled))
        follow_batch(self.bn, moments)
        return self.drop_path(pooled)


@OPS.register_module()
class DartsDilConv(RectifiedOP):
    """Dilated separable convolution: ReLU, depthwise with dilation 2, pointwise, norm.

    Args:
        kernel_size: Odd; 3 and 5 in the paper.
        use_drop_path: Whether a drop path follows.
        norm_cfg: Config of the norm, or ``None`` for none.
        **kwargs: As for :class:`BaseOP`.

    Raises:
        ConfigError: An even ``kernel_size``.

    >>> import torch
    >>> op = DartsDilConv(kernel_size=3, in_channels=4, out_channels=6, stride=2)
    >>> op(torch.rand(2, 4, 7, 8)).shape
    torch.Size([2, 6, 4, 4])
    """

    dilation = 2
    entered = ('conv1',)

    def __init__(
        self,
        kernel_size: int,
        use_drop_path: bool = False,
        norm_cfg: ConfigDict | None = DEFAULT_NORM,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel_size = check_kernel_size(kernel_size)
        self.conv1 = separable_conv(
            self.in_channels,
            self.out_channels,
            kernel_size,
            self.stride,
            self.dilation,
            norm_cfg,
        )
        self.drop_path = build_drop_path(use_drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolved map."""
        return self.drop_path(self.conv1(x))

    @property
    def first(self) -> nn.Module:
        """The ReLU."""
        return self.conv1[0]

    def after_first(self, x: Tensor) -> Open:
        """Go on after the ReLU."""
        inside = self.conv1.inside(x, rectified=True)
        return before_norm(inside, self.conv1[-1], self.drop_path)


@OPS.register_module()
class DartsSepConv(RectifiedOP):
    """Separable convolution, applied twice as in the paper.

    Each is ReLU, depthwise, pointwise, norm; the first has the stride, the second changes
    the number of channels.

    Args:
        kernel_size: Odd; 3 and 5 in the paper.
        use_drop_path: Whether a drop path follows.
        norm_cfg: Config of the norms, or ``None`` for none.
        **kwargs: As for :class:`BaseOP`.

    Raises:
        ConfigError: An even ``kernel_size``.

    >>> import torch
    >>> op = DartsSepConv(kernel_size=5, in_channels=4, out_channels=6, stride=2)
    >>> op(torch.rand(2, 4, 7, 8)).shape
    torch.Size([2, 6, 4, 4])
    """

    entered = 'conv1', 'conv2'

    def __init__(
        self,
        kernel_size: int,
        use_drop_path: bool = False,
        norm_cfg: ConfigDict | None = DEFAULT_NORM,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel_size = check_kernel_size(kernel_size)
        self.conv1 = separable_conv(
            self.in_channels, self.in_channels, kernel_size, self.stride, norm_cfg=norm_cfg
        )
        self.conv2 = separable_conv(
            self.in_channels, self.out_channels, kernel_size, norm_cfg=norm_cfg
        )
        self.drop_path = build_drop_path(use_drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Return the twice convolved map."""
        return self.drop_path(self.conv2(self.conv1(x)))

    @property
    def first(self) -> nn.Module:
        """The ReLU of the first of both."""
        return self.conv1[0]

    def after_first(self, x: Tensor) -> Open:
        """Go on after the first ReLU."""
        inside = self.conv2.inside(self.conv1.after_relu(x))
        return before_norm(inside, self.conv2[-1], self.drop_path)


@OPS.register_module()
class DartsSkipConnect(RectifiedOP):
    """The identity, or a factorized reduction at stride 2.

    At stride 1 the paper has no change of channels; here it is a 1x1
    :class:`StandardConv`, as at the entrance of a cell.  A drop path never
    drops the identity, which is what the authors' code does.

    Args:
        use_drop_path: Whether a drop path follows anything but the identity.
        norm_cfg: Config of the norm, or ``None`` for none.
        **kwargs: As for :class:`BaseOP`.

    Raises:
        ConfigError: A stride above 2, or stride 2 with ``out_channels`` below 2.

    >>> import torch
    >>> x = torch.rand(2, 4, 7, 8)
    >>> DartsSkipConnect(in_channels=4, out_channels=4)(x) is x
    True
    >>> DartsSkipConnect(in_channels=4, out_channels=5, stride=2)(x).shape
    torch.Size([2, 5, 4, 4])
    """

    def __init__(
        self,
        use_drop_path: bool = False,
        norm_cfg: ConfigDict | None = DEFAULT_NORM,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice('stride', self.stride, (1, 2))
        self.convert: nn.Module | None = None
        self.is_identity = self.stride == 1 and self.in_channels == self.out_channels
        if self.stride == 2:
            # Not a FactorizedReduce of its own: checkpoints know these names.
            self.relu = nn.ReLU()
            self.conv1, self.conv2 = factorized_convs(self.in_channels, self.out_channels)
            self.bn = build_norm(norm_cfg, self.out_channels)
        elif not self.is_identity:
            self.convert = StandardConv(self.in_channels, self.out_channels, norm_cfg=norm_cfg)
        self.drop_path = build_drop_path(use_drop_path and not self.is_identity)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` itself where its shape fits."""
        if self.is_identity:
            return x
        if self.convert is not None:
            return self.drop_path(self.convert(x))
        return self.after_first(self.relu(x)).close()

    @property
    def first(self) -> nn.Module | None:
        """The ReLU, where there is one."""
        return self.relu if self.stride == 2 else None

    def after_first(self, x: Tensor) -> Open:
        """Go on after the ReLU."""
        reduced = factorized_reduce(x, self.conv1, self.conv2)
        return before_norm(reduced, self.bn, self.drop_path)


@OPS.register_module()
class DartsZero(BaseOP):
    """No connection: zeros of the shape that the other candidates put out.

    Args:
        **kwargs: As for :class:`BaseOP`.

    >>> import torch
    >>> op = DartsZero(in_channels=1, out_channels=1)
    >>> op(torch.tensor([[[[float('nan')]]]]))
    tensor([[[[0.]]]])
    """

    is_zero = True

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros, without a gradient to ``x``."""
        return strided_zeros(x, self.out_channels, self.stride)
