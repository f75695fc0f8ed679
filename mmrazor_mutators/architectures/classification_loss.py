"""The losses that the heads of MMClassification's configs name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, InputError, did_you_mean
from ..typing import ConfigDict

__all__ = [
    'WeightedCrossEntropy',
    'build_classification_loss',
    'class_indices',
    'topk_accuracy',
]

_ARGUMENTS = {
    'CrossEntropyLoss': ('class_weight', 'loss_weight'),
    'LabelSmoothLoss': ('label_smooth_val', 'loss_weight', 'mode', 'num_classes'),
}
_DEFAULTS = {'reduction': 'mean', 'use_sigmoid': False, 'use_soft': False}


class WeightedCrossEntropy(nn.Module):
    r"""Cross entropy with smoothed labels, times a weight, averaged over the images.

    The target is :math:`(1 - \epsilon)\,\delta_{ky} + \epsilon / K` (Szegedy et
    al., CVPR 2016, section 7).

    Args:
        loss_weight: What the mean is multiplied with.
        smoothing: :math:`\epsilon`, at least 0 and below 1.
        class_weight: One weight per class; ``None`` for 1 each.

    Raises:
        ConfigError: ``smoothing`` out of its range.

    >>> loss = WeightedCrossEntropy(loss_weight=0.5)
    >>> loss(torch.zeros(2, 4), torch.tensor([0, 3]))
    tensor(0.6931)
    """

    class_weight: Tensor | None

    def __init__(
        self,
        loss_weight: float = 1.0,
        smoothing: float = 0.0,
        class_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise ConfigError(
                'Expected the share of label smoothing to be at least 0 and below 1, but got '
                f'{smoothing!r}'
            )
        self.loss_weight = loss_weight
        self.smoothing = smoothing
        weights = None if class_weight is None else torch.tensor(class_weight)
        self.register_buffer('class_weight', weights, persistent=False)

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of logits of shape ``(N, K)``."""
        total = F.cross_entropy(
            scores,
            labels,
            weight=self.class_weight,
            label_smoothing=self.smoothing,
            reduction='sum',
        )
        return self.loss_weight * total / len(scores)


def build_classification_loss(
    loss: ConfigDict | Callable[[Tensor, Tensor], Tensor],
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return ``(scores, labels) -> scalar`` for the config of a head's loss.

    Args:
        loss: A callable, or a config of the type ``CrossEntropyLoss`` or
            ``LabelSmoothLoss`` with the arguments of MMClassification.

    Raises:
        ConfigError: Another type, or an argument that is not supported.

    >>> build_classification_loss(dict(type='CrossEntropyLoss', loss_weight=0.4))
    WeightedCrossEntropy()
    """
    if not isinstance(loss, Mapping):
        if callable(loss):
            return loss
        raise ConfigError(f'Expected `loss` to be a callable or a config, but got {loss!r}')
    arguments = dict(loss)
    name = arguments.pop('type', None)
    kind = str(name).rsplit('.', 1)[-1]
    if kind not in _ARGUMENTS:
        raise ConfigError(
            f'There is no loss {name!r} for a classification head; '
            f'{did_you_mean(str(name), _ARGUMENTS)}'
        )
    for key, default in _DEFAULTS.items():
        if arguments.pop(key, default) != default:
            raise ConfigError(
                f'The {kind} of a head has {key}={default!r} alone, but got {loss[key]!r}'
            )
    unknown = sorted({*arguments}.difference(_ARGUMENTS[kind]))
    if unknown:
        raise ConfigError(
            f'The {kind} of a head takes no argument {unknown[0]!r}; '
            f'{did_you_mean(unknown[0], _ARGUMENTS[kind])}'
        )
    weight = arguments.get('loss_weight', 1.0)
    if kind == 'CrossEntropyLoss':
        return WeightedCrossEntropy(weight, class_weight=arguments.get('class_weight'))
    return WeightedCrossEntropy(weight, _share_of(arguments))


def _share_of(arguments: Mapping[str, Any]) -> float:
    """Return the share of the smoothing of a ``LabelSmoothLoss``."""
    share, mode = arguments.get('label_smooth_val'), arguments.get('mode', 'original')
    if not isinstance(share, (int, float)) or not 0 <= share < 1:
        raise ConfigError(
            f'Expected `label_smooth_val` to be at least 0 and below 1, but got {share!r}'
        )
    if mode not in ('original', 'classy_vision'):
        raise ConfigError(
            f"Expected `mode` to be 'original' or 'classy_vision', but got {mode!r}"
        )
    # (delta + e / K) / (1 + e) is the usual form with the share e / (1 + e).
    return share if mode == 'original' else share / (1 + share)


def class_indices(labels: Any) -> Tensor:
    """Return labels as class indices of shape ``(N,)``.

    Args:
        labels: Shape ``(N,)`` or ``(N, 1)``, or a list of samples whose
            ``gt_label`` holds one index.

    Raises:
        InputError: Anything else.

    >>> class_indices(torch.tensor([[2], [0]]))
    tensor([2, 0])
    """
    if isinstance(labels, Sequence) and labels and hasattr(labels[0], 'gt_label'):
        labels = torch.cat([torch.as_tensor(sample.gt_label).reshape(1) for sample in labels])
    if isinstance(labels, Tensor):
        if labels.dim() == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.dim() == 1 and not labels.is_floating_point():
            return labels
    came = tuple(labels.shape) if isinstance(labels, Tensor) else repr(labels)
    raise InputError(
        f'Expected the labels to be class indices of shape (N,) or (N, 1), but got {came}'
    )


def topk_accuracy(scores: Tensor, labels: Tensor, topk: Sequence[int]) -> dict[str, Tensor]:
    """Return ``{'top-k': percent}`` of the images whose class is among the best k.

    >>> scores = torch.tensor([[1.0, 2.0, 0.0], [3.0, 1.0, 2.0]])
    >>> topk_accuracy(scores, torch.tensor([1, 2]), (1, 2))
    {'top-1': tensor(50.), 'top-2': tensor(100.)}
    """
    best = scores.detach().topk(min(max(topk), scores.shape[1]), 1).indices
    right = best == labels[:, None]
    return {f'top-{k}': 100 * right[:, :k].any(1).float().mean() for k in topk}
