"""Architectures that compute their own losses, in the two ways OpenMMLab has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from torch import Tensor

from ..architectures.classification_loss import class_indices
from ..architectures.wrappers import LabelSample, takes
from ..errors import InputError
from ..search import BilevelSearch
from .batches import pair_of, size_of

__all__ = ['LossesByMode', 'LossesByReturn', 'TaskModel', 'TaskSearch', 'flattened', 'task_of']


class TaskModel(ABC):
    """How an architecture that computes its own losses is called."""

    @abstractmethod
    def batch_of(self, architecture: Any, batch: Any) -> Any:
        """Return a batch, on its device, in the form in which the architecture reads it."""

    @abstractmethod
    def run(self, architecture: Any, batch: Any, mode: str) -> Any:
        """Return what the architecture makes of a batch.

        Args:
            architecture: The network.
            batch: As :meth:`batch_of` returns it.
            mode: ``'loss'`` for a dict of losses, ``'predict'`` for
                predictions, ``'tensor'`` for the raw outputs.
        """


class LossesByMode(TaskModel):
    """``architecture(inputs, data_samples, mode='loss')``, as in mmengine's models.

    Batches are what the model's own ``data_preprocessor`` makes of them: dicts
    ``{'inputs': ..., 'data_samples': [...]}``, or pairs.  A pair of images and
    class indices becomes such a dict if the model reads data samples.
    """

    def batch_of(self, architecture: Any, batch: Any) -> Any:
        if not isinstance(batch, Mapping) and takes(architecture, 'data_samples'):
            inputs, targets = batch
            if isinstance(targets, Tensor) and targets.shape == (len(inputs),):
                targets = LabelSample.of(targets)
            batch = {'inputs': inputs, 'data_samples': targets}
        preprocess = getattr(architecture, 'data_preprocessor', None)
        return batch if preprocess is None else preprocess(batch, architecture.training)

    def run(self, architecture: Any, batch: Any, mode: str) -> Any:
        if isinstance(batch, Mapping):
            return architecture(**batch, mode=mode)
        return architecture(*batch, mode=mode)


class LossesByReturn(TaskModel):
    """``architecture(img, gt_label=..., return_loss=True)``, as in MMRazor v0.2.0.

    Batches are dicts ``{'img': ..., 'gt_label': ...}`` with whatever else the
    model reads; a pair is taken for these two.  Batches of ``inputs`` and
    ``data_samples`` are for a model of the newer kind inside.
    """

    def batch_of(self, architecture: Any, batch: Any) -> Any:
        if not isinstance(batch, Mapping):
            images, labels = batch
            return {'img': images, 'gt_label': labels}
        if 'img' in batch:
            return dict(batch)
        if 'inputs' not in batch:
            raise InputError(
                "Expected a batch to have the images as 'img' or 'inputs', but it has "
                f'{", ".join(map(repr, batch)) or "nothing"}'
            )
        preprocess = getattr(architecture, 'data_preprocessor', None)
        if preprocess is not None:
            batch = preprocess(batch, architecture.training)
        others = {key: value for key, value in batch.items() if key != 'inputs'}
        return {'img': batch['inputs'], **others}

    def run(self, architecture: Any, batch: Any, mode: str) -> Any:
        if mode == 'loss':
            return architecture(**batch, return_loss=True)
        if mode == 'tensor':
            return architecture.forward_dummy(batch['img'])
        # What is to be predicted is no argument of a prediction.
        asked = {key: value for key, value in batch.items() if not key.startswith('gt_')}
        return architecture(**asked, return_loss=False)


def task_of(architecture: Any) -> TaskModel | None:
    """Return how an architecture computes its own losses; ``None`` if it does not.

    >>> import torch
    >>> task_of(torch.nn.ReLU()) is None
    True
    """
    if takes(architecture, 'return_loss'):
        return LossesByReturn()
    by_mode = takes(architecture, 'mode') and (
        takes(architecture, 'data_samples') or hasattr(architecture, 'data_preprocessor')
    )
    return LossesByMode() if by_mode else None


def flattened(losses: Any) -> dict[str, Any]:
    """Return a dict of losses without dicts inside of it.

    Args:
        losses: Tensors, lists of tensors, and dicts of what is only logged,
            whose own names are kept, as in MMRazor v0.2.0.

    Raises:
        InputError: No dict, no loss in it, or something else inside.

    >>> import torch
    >>> flattened({'loss': torch.tensor(1.0), 'accuracy': {'top-1': torch.tensor(50.0)}})
    {'loss': tensor(1.), 'top-1': tensor(50.)}
    """
    if not isinstance(losses, Mapping):
        raise InputError(
            'Expected an architecture that computes its own losses to return a dict of them, '
            f'but got {type(losses).__name__}'
        )
    flat: dict[str, Any] = {}
    for name, value in losses.items():
        flat.update(value if isinstance(value, Mapping) else {name: value})
    for name, value in flat.items():
        parts = value if isinstance(value, (list, tuple)) else [value]
        if not all(isinstance(part, Tensor) for part in parts):
            raise InputError(
                f'Expected the loss {name!r} to be a tensor or a list of tensors, but got '
                f'{value!r}'
            )
    if not any('loss' in name for name in flat):
        raise InputError(
            "Expected at least one of the losses to have 'loss' in its name, but got "
            f'{", ".join(map(repr, flat)) or "nothing"}'
        )
    return {name: list(v) if isinstance(v, tuple) else v for name, v in flat.items()}


class TaskSearch(BilevelSearch):
    """A search whose ``loss_fn`` takes a whole batch and runs the supernet itself.

    Algorithm and arguments are those of :class:`BilevelSearch`.

    Raises:
        ConfigError: As for :class:`BilevelSearch`.
    """

    def compute_loss(self, batch: Any) -> Tensor:
        """Return the loss of a batch, whatever its form is."""
        loss_of: Any = self.loss_fn
        with self.execution.forward_context():
            return loss_of(batch)

    def predict(self, batch: Any) -> tuple[Any, Any]:
        """Return the raw outputs of a batch, and its class indices where it has some."""
        outputs = self._task.run(self.supernet, batch, 'tensor')
        targets = pair_of(batch)[1]
        with suppress(InputError):  # Other tasks have targets of other forms.
            targets = class_indices(targets)
        return outputs, targets

    def size_of(self, batch: Any) -> int:
        """Return the number of samples in a batch, whatever its form is."""
        return size_of(batch)

    @property
    def _task(self) -> TaskModel:
        task = task_of(self.supernet)
        if task is None:
            raise InputError(
                f'Expected the supernet of a TaskSearch to compute its own losses, but '
                f'{type(self.supernet).__name__} has neither modes nor `return_loss`'
            )
        return task
