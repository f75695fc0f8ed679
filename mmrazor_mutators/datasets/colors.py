"""Changes of colour."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from ..registry import TRANSFORMS
from .checks import check_fraction
from .transforms import Transform

__all__ = ['ColorJitter']

_GREY = (0.299, 0.587, 0.114)
"""How bright red, green and blue are (ITU-R BT.601)."""


@TRANSFORMS.register_module()
class ColorJitter(Transform):
    """Change brightness, contrast and saturation at random, in random order.

    As for ImageNet by Howard, 2013 (arXiv:1312.5402).  An image is moved away
    from black, from its mean grey, and from its grey self, by factors drawn
    uniformly from 1 - x to 1 + x; values stay between 0 and 1, so that it
    belongs before :class:`Normalize`.

    Args:
        brightness: The largest change, from 0 to 1.
        contrast: Likewise.
        saturation: Likewise.

    Raises:
        ConfigError: A number outside of its range.
        InputError: Images that are not red, green and blue.

    >>> image = torch.rand(3, 4, 4)
    >>> bool((ColorJitter()(image) == image).all())
    True
    """

    example = "dict(type='ColorJitter', brightness=0.4)"

    def __init__(
        self, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0
    ) -> None:
        self.brightness = check_fraction('brightness', brightness, ends=True)
        self.contrast = check_fraction('contrast', contrast, ends=True)
        self.saturation = check_fraction('saturation', saturation, ends=True)

    def apply(self, images: Tensor) -> Tensor:
        if images.shape[1] != 3:
            raise InputError(
                f'ColorJitter expected images of 3 channels, but got {images.shape[1]}'
            )
        return torch.stack([self._jitter(image) for image in images])

    def _jitter(self, image: Tensor) -> Tensor:
        changes = ((_black, self.brightness), (_mean, self.contrast), (_grey, self.saturation))
        for index in torch.randperm(3).tolist():
            reference, largest = changes[index]
            if largest:
                factor = 1 + largest * (2 * torch.rand(()) - 1)
                image = torch.lerp(reference(image), image, factor).clamp(0, 1)
        return image


def _grey(image: Tensor) -> Tensor:
    return torch.tensordot(image.new_tensor(_GREY), image, 1).expand_as(image)


def _mean(image: Tensor) -> Tensor:
    return _grey(image).mean().expand_as(image)


def _black(image: Tensor) -> Tensor:
    return torch.zeros_like(image)
