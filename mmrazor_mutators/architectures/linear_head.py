"""MMClassification's linear heads, with and without the auxiliary classifier of DARTS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from ..checks import check_count
from ..errors import InputError
from ..host import BaseModule
from ..registry import MODELS
from ..typing import ConfigDict
from .classification_loss import build_classification_loss, class_indices, topk_accuracy

__all__ = ['DartsSubnetClsHead', 'LinearClsHead']

_CROSS_ENTROPY = {'type': 'CrossEntropyLoss', 'loss_weight': 1.0}
_NORMAL = {'type': 'Normal', 'layer': 'Linear', 'std': 0.01}


@MODELS.register_module()
class LinearClsHead(BaseModule):
    """A linear classifier over pooled features, with its loss.

    It has the names, arguments and keys of MMClassification's head, and works
    in its classifiers as well: ``forward_train`` and ``simple_test`` are what
    version 0.x calls, ``loss`` and ``predict`` what 1.x does.

    Args:
        num_classes: Number of scores.
        in_channels: Number of features.
        init_cfg: As for the host's ``BaseModule``.
        loss: Config of the loss, ``CrossEntropyLoss`` or ``LabelSmoothLoss``.
        topk: Which accuracies are reported.
        cal_acc: Whether accuracies are reported while training.

    Raises:
        ConfigError: An argument out of its range.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        init_cfg: Any | None = _NORMAL,
        loss: ConfigDict | Callable[[Tensor, Tensor], Tensor] = _CROSS_ENTROPY,
        topk: int | Sequence[int] = (1,),
        cal_acc: bool = False,
    ) -> None:
        super().__init__(init_cfg)
        self.num_classes = check_count('num_classes', num_classes)
        self.in_channels = check_count('in_channels', in_channels)
        topk = (topk,) if isinstance(topk, int) else tuple(topk)
        self.topk = tuple(check_count('topk', k) for k in topk)
        self.cal_acc = cal_acc
        self.compute_loss = build_classification_loss(loss)
        self.fc = nn.Linear(in_channels, num_classes)

    def pre_logits(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """Return the features that are classified: the last of them."""
        return x if isinstance(x, Tensor) else x[-1]

    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """Return the logits, shape ``(N, num_classes)``."""
        return self.fc(self.pre_logits(x))

    def forward_train(
        self, x: Tensor | Sequence[Tensor], gt_label: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """Return ``{'loss': ...}``, with ``cal_acc`` also ``{'accuracy': {'top-1': ...}}``.

        Args:
            x: Features of shape ``(N, in_channels)``, or a tuple that ends
                with them.
            gt_label: Class indices.
            **kwargs: Not looked at.

        Raises:
            InputError: Labels of another form.
        """
        labels, scores = class_indices(gt_label), self(x)
        losses: dict[str, Any] = {'loss': self.compute_loss(scores, labels)}
        if self.cal_acc:
            losses['accuracy'] = topk_accuracy(scores, labels, self.topk)
        return losses

    def simple_test(
        self, x: Tensor | Sequence[Tensor], softmax: bool = True, post_process: bool = True
    ) -> Tensor | list[Tensor]:
        """Return the scores, by default as a list of one tensor per image.

        Args:
            x: As for :meth:`forward_train`.
            softmax: Whether to return probabilities.
            post_process: Whether to return a list, detached.
        """
        scores = self(x).softmax(1) if softmax else self(x)
        return list(scores.detach()) if post_process else scores

    def loss(self, feats: Any, data_samples: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the losses of a classifier of MMPretrain, without nested dicts."""
        losses = self.forward_train(feats, data_samples)
        accuracies = losses.pop('accuracy', {})
        return {**losses, **{f'accuracy_{key}': value for key, value in accuracies.items()}}

    def predict(self, feats: Any, data_samples: Any = None) -> list[Any]:
        """Return the probabilities, set in the samples where there are some."""
        scores = self(feats).softmax(1).detach()
        if not data_samples:
            return list(scores)
        for sample, score in zip(data_samples, scores, strict=True):
            sample.set_pred_score(score).set_pred_label(score.argmax(0, keepdim=True))
        return list(data_samples)


@MODELS.register_module()
class DartsSubnetClsHead(LinearClsHead):
    """The head of a DARTS network that is trained from scratch, with its auxiliary one.

    DARTS (Liu et al., ICLR 2019), appendix A.2.  The losses are called
    ``subnet.loss`` and ``aux_head.loss``; their weights are their own
    ``loss_weight``, 1 and 0.4 in the paper.

    Args:
        aux_in_channels: Features of the auxiliary module.
        aux_loss: Config of the loss of the auxiliary classifier.
        num_classes: Number of scores.
        in_channels: Number of features.
        **kwargs: As for :class:`LinearClsHead`.
    """

    def __init__(
        self,
        aux_in_channels: int,
        aux_loss: ConfigDict | Callable[[Tensor, Tensor], Tensor],
        num_classes: int,
        in_channels: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        self.aux_linear = nn.Linear(
            check_count('aux_in_channels', aux_in_channels), num_classes
        )
        self.compute_aux_loss = build_classification_loss(aux_loss)

    def forward_train(
        self, x: Tensor | Sequence[Tensor], gt_label: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """Return the losses of both classifiers.

        Args:
            x: ``(auxiliary features, features)``, pooled.
            gt_label: Class indices.
            **kwargs: Not looked at.

        Raises:
            InputError: No auxiliary features, or labels of another form.
        """
        if isinstance(x, Tensor) or len(x) < 2:
            raise InputError(
                'Expected (auxiliary features, features) for DartsSubnetClsHead, but got '
                f'{1 if isinstance(x, Tensor) else len(x)} of them; give the backbone '
                'auxliary=True, which returns them in training mode'
            )
        losses = super().forward_train(x, gt_label)
        named = {f'subnet.{name}': value for name, value in losses.items()}
        auxiliary = self.compute_aux_loss(self.aux_linear(x[0]), class_indices(gt_label))
        return {**named, 'aux_head.loss': auxiliary}

    def loss(self, feats: Any, data_samples: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the losses of a classifier of MMPretrain, without nested dicts."""
        losses = self.forward_train(feats, data_samples)
        accuracies = losses.pop('subnet.accuracy', {})
        return {**losses, **{f'accuracy_{key}': value for key, value in accuracies.items()}}
