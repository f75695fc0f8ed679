"""From feature maps to class scores."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_count
from ..errors import InputError
from ..ops.blocks import DEFAULT_NORM, build_norm
from ..typing import ConfigDict

__all__ = ['AuxiliaryModule', 'ClassifierHead']


class ClassifierHead(nn.Module):
    """Global average pooling, then a linear classifier.

    Args:
        in_channels: Channels of the feature map.
        num_classes: Number of scores.

    Shapes:
        ``(N, in_channels, H, W)`` to ``(N, num_classes)``.

    >>> import torch
    >>> ClassifierHead(8, 3)(torch.rand(2, 8, 4, 4)).shape
    torch.Size([2, 3])
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(in_channels, check_count('num_classes', num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class _CornerPool(nn.Module):
    """Average pooling to 2x2.

    A side of 8 or 7 pixels is read by two windows of 5 at its ends.  That is
    the auxiliary head of DARTS for CIFAR (stride 3) and for ImageNet (stride
    2).  Every other size is divided evenly, so that no pixel goes unread.
    """

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        if height in (7, 8) and width in (7, 8):
            return F.avg_pool2d(x, 5, stride=(height - 5, width - 5))
        return F.adaptive_avg_pool2d(x, 2)


class AuxiliaryModule(nn.Module):
    """The trunk of the auxiliary classifier, at two thirds of the depth.

    DARTS (Liu et al., ICLR 2019), appendix A.2, after the authors' code for
    CIFAR: ReLU, 2x2 pooling, 1x1 convolution, norm, ReLU, 2x2 convolution,
    norm, ReLU.  Maps of any size are pooled to 2x2.

    Args:
        in_channels: Channels of the feature map.
        base_channels: Channels between the convolutions, 128 in the paper.
        out_channels: Channels of the output, 768 in the paper.
        norm_cfg: Config of the norms, or ``None`` for none.

    Shapes:
        ``(N, in_channels, H, W)`` to ``(N, out_channels, 1, 1)``.

    >>> import torch
    >>> AuxiliaryModule(8, 4, 6)(torch.rand(2, 8, 2, 2)).shape
    torch.Size([2, 6, 1, 1])
    """

    def __init__(
        self,
        in_channels: int,
        base_channels: int,
        out_channels: int,
        norm_cfg: ConfigDict | None = DEFAULT_NORM,
    ) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.ReLU(),
            _CornerPool(),
            nn.Conv2d(in_channels, base_channels, kernel_size=1, bias=False),
            build_norm(norm_cfg, base_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(base_channels, out_channels, kernel_size=2, bias=False),
            build_norm(norm_cfg, out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of the auxiliary classifier.

        Raises:
            InputError: One image while training, of which a batch norm has no
                variance.
        """
        if self.training and len(x) == 1 and isinstance(self.net[6], nn.BatchNorm2d):
            raise InputError(
                'Expected at least 2 images while the auxiliary head is trained, because its '
                'batch norm sees one value per image, but got 1; drop the last incomplete '
                'batch, or use another `norm_cfg`'
            )
        return self.net(x)
