"""A backbone, a neck and a head as one classifier that computes its own losses."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..errors import ConfigError, InputError
from ..host import BaseModule
from ..registry import ARCHITECTURES, MODELS
from ..typing import ConfigDict

__all__ = ['GlobalAveragePooling', 'ImageClassifier']

_POOLINGS = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


@MODELS.register_module()
class GlobalAveragePooling(nn.Module):
    """The mean over all places of a feature map, or of each map of a tuple.

    Args:
        dim: Number of dimensions that are pooled: 1, 2 or 3.

    Raises:
        ConfigError: Another number.

    Shapes:
        ``(N, C, H, W)`` to ``(N, C)``.

    >>> import torch
    >>> GlobalAveragePooling()((torch.rand(2, 3, 4, 4),))[0].shape
    torch.Size([2, 3])
    """

    def __init__(self, dim: int = 2) -> None:
        super().__init__()
        if dim not in _POOLINGS:
            raise ConfigError(f'Expected `dim` to be 1, 2 or 3, but got {dim!r}')
        self.gap = _POOLINGS[dim](1)

    def init_weights(self) -> None:
        """Do nothing: there are no weights."""

    def forward(self, inputs: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        """Return the means.

        Raises:
            InputError: Neither a tensor nor a tuple of them.
        """
        if isinstance(inputs, Tensor):
            return self.gap(inputs).flatten(1)
        if isinstance(inputs, (tuple, list)):
            return tuple(self.gap(x).flatten(1) for x in inputs)
        raise InputError(
            f'Expected a feature map or a tuple of them, but got {type(inputs).__name__}'
        )


@ARCHITECTURES.register_module()
class ImageClassifier(BaseModule):
    """A classifier of a backbone, a neck and a head, as in MMClassification 0.x.

    It stands in for ``mmcls.ImageClassifier`` where that is not installed, with
    its names, calls and keys of the state.

    Args:
        backbone: Config of the backbone, or a module; returns feature maps.
        neck: Config of what pools them, or a module, or ``None``.
        head: Config of the head, or a module; has ``forward_train`` and
            ``simple_test``.
        pretrained: A checkpoint to begin with.
        train_cfg: Not supported: it would name augmentations of batches.
        init_cfg: As for the host's ``BaseModule``.

    Raises:
        ConfigError: A ``train_cfg`` that says something.
    """

    def __init__(
        self,
        backbone: nn.Module | ConfigDict,
        neck: nn.Module | ConfigDict | None = None,
        head: nn.Module | ConfigDict | None = None,
        pretrained: str | None = None,
        train_cfg: ConfigDict | None = None,
        init_cfg: Any | None = None,
    ) -> None:
        if pretrained is not None:
            init_cfg = {'type': 'Pretrained', 'checkpoint': pretrained}
        super().__init__(init_cfg)
        if train_cfg:
            raise ConfigError(
                f'Expected `train_cfg` of ImageClassifier to be None, but got {train_cfg!r}; '
                'augmentations of whole batches are not supported'
            )
        for name, part in (('backbone', backbone), ('neck', neck), ('head', head)):
            if part is not None and not isinstance(part, nn.Module):
                part = MODELS.build(part)
            setattr(self, name, part)

    def extract_feat(self, img: Tensor) -> Any:
        """Return what the neck makes of the feature maps."""
        features = self.backbone(img)
        return features if self.neck is None else self.neck(features)

    def forward_dummy(self, img: Tensor) -> Any:
        """Return the logits, or the features if there is no head."""
        features = self.extract_feat(img)
        return features if self.head is None else self.head(features)

    def forward_train(self, img: Tensor, gt_label: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the losses of the head.

        Raises:
            ConfigError: There is no head.
        """
        return self._checked_head().forward_train(self.extract_feat(img), gt_label)

    def simple_test(self, img: Tensor, img_metas: Any = None, **kwargs: Any) -> Any:
        """Return the probabilities as a list of one tensor per image.

        Raises:
            ConfigError: There is no head.
        """
        return self._checked_head().simple_test(self.extract_feat(img), **kwargs)

    def forward(self, img: Any, return_loss: bool = True, **kwargs: Any) -> Any:
        """Return losses, or predictions, or the logits where there are images alone.

        Args:
            img: Shape ``(N, C, H, W)``; a list of one such tensor for
                predictions.
            return_loss: Whether to return a dict of losses.
            **kwargs: ``gt_label`` for losses.

        Raises:
            ConfigError: There is no head.
            InputError: A test with several augmentations.
        """
        if return_loss:
            return self.forward_train(img, **kwargs) if kwargs else self.forward_dummy(img)
        if isinstance(img, (tuple, list)):
            if len(img) != 1:
                raise InputError(
                    f'Expected one version of the images to be tested, but got {len(img)}'
                )
            img = img[0]
        return self.simple_test(img, **kwargs)

    def _checked_head(self) -> Any:
        if self.head is None:
            raise ConfigError('ImageClassifier has no `head`, which losses and scores need')
        return self.head
