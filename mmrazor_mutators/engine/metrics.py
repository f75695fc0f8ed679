"""How good a classifier is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric

from ..registry import METRICS

__all__ = ['Accuracy']


@METRICS.register_module()
class Accuracy(BaseMetric):
    """Share of the images whose largest logit is that of their class, in percent.

    Reported as ``accuracy``.

    Args:
        collect_device: How ranks exchange their results: ``'gpu'`` for a message
            by whatever backend there is, ``'cpu'`` for files in ``.dist_test``.
        **kwargs: As for the host's ``BaseMetric``.
    """

    def __init__(self, collect_device: str = 'gpu', **kwargs: Any) -> None:
        super().__init__(collect_device, **kwargs)

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Count the right ones of a batch.

        Args:
            data_batch: ``(images, labels)``.
            data_samples: Logits of each sample, shape ``(num_classes,)``, or
                ``(num_classes, ...)`` where it has several labels, as one for each pixel.
        """
        labels = data_batch[1]
        right = [
            float((logits.argmax(0).cpu() == torch.as_tensor(label).cpu()).float().mean())
            for logits, label in zip(data_samples, labels, strict=True)
        ]
        self.results.extend(right)

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        """Return the share over all batches."""
        return {'accuracy': 100.0 * sum(results) / len(results)}
