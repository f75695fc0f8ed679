"""How good a supernet is by now, and the network that would be read off from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack, nullcontext
from itertools import islice
from typing import Any

import torch
from torch import nn

from ..checks import check_count
from ..errors import ConfigError, InputError
from ..structures import map_tensors
from ..typing import Subnet
from .checks import pair_of
from .guards import buffers_kept, draws_kept, in_mode
from .norm_statistics import calibrate_batch_norm

__all__ = ['Measure', 'share_right']

Evaluate = Callable[[nn.Module], float]


def share_right(network: nn.Module, batches: Iterable[Any]) -> float:
    """Return the share of labels that are those of the largest logit, from 0 to 1.

    Args:
        network: Called with the inputs of each batch; returns ``(N, classes, ...)``.
        batches: Pairs of inputs and targets, the targets ``(N, ...)``.

    Raises:
        InputError: No batch, or outputs and targets of other forms.

    >>> share_right(nn.Identity(), [(torch.eye(3), torch.tensor([0, 1, 1]))])
    0.6666666666666666
    """
    device = next((x.device for x in network.state_dict().values()), torch.device('cpu'))
    right = count = 0
    for batch in batches:
        inputs, targets = map_tensors(lambda x: x.to(device), pair_of(batch))
        outputs = network(inputs)
        shape = (outputs.shape[0], *outputs.shape[2:]) if hasattr(outputs, 'shape') else None
        if not isinstance(targets, torch.Tensor) or targets.shape != shape:
            raise InputError(
                'Expected outputs of shape (N, classes, ...) and targets of shape (N, ...) to '
                f'measure an accuracy, but got {_told(outputs)} and {_told(targets)}; give '
                '`evaluate` in place of `loader`'
            )
        right += int((outputs.argmax(1) == targets).sum())
        count += targets.numel()
    if not count:
        raise InputError('Expected at least one batch to measure an accuracy on, but got none')
    return right / count


class Measure:
    """Measures a supernet and the network read off from it, and leaves no trace.

    Args:
        evaluate: ``network -> number``; both networks are in eval mode.
        loader: In place of it, batches on which the share of right answers is counted.
        batches: How many of them; all by default.
        calibration: Training batches from which the network read off gets the statistics
            of its own batch norms first.
        interval: In epochs whose number is a multiple of this.

    Raises:
        ConfigError: Both of ``evaluate`` and ``loader``, or counts that are none.
    """

    def __init__(
        self,
        evaluate: Evaluate | None = None,
        loader: Iterable[Any] | None = None,
        batches: int | None = None,
        calibration: Iterable[Any] | None = None,
        interval: int = 1,
    ) -> None:
        if evaluate is not None and loader is not None:
            raise ConfigError('Expected `evaluate` or `loader`, but got both')
        if batches is not None:
            check_count('batches', batches)
        self.interval = check_count('interval', interval)
        self._calibration, self._batches = calibration, batches
        self._evaluate = evaluate
        if loader is not None:
            self._evaluate = lambda network: share_right(network, islice(loader, batches))

    def is_due(self, epoch: int) -> bool:
        """Whether to measure after an epoch."""
        return self._evaluate is not None and epoch % self.interval == 0

    def __call__(
        self, supernet: nn.Module, mutator: Any, subnet: Subnet | None
    ) -> dict[str, float]:
        """Return ``supernet_accuracy``, and ``network_accuracy`` if there is a subnet."""
        evaluate: Any = self._evaluate
        scope = getattr(mutator, '_scope', None)
        found = {}
        with ExitStack() as stack:
            for context in (
                draws_kept(),
                torch.no_grad(),
                in_mode(supernet, training=False),
                buffers_kept(supernet),
                # The mixtures of the last step stay those of the last step.
                nullcontext() if scope is None else scope.remember()(),
            ):
                stack.enter_context(context)
            if getattr(mutator, 'arch_params', None):
                found['supernet_accuracy'] = float(evaluate(supernet))
            if subnet is not None:
                network = mutator.export_subnet(supernet, subnet).eval()
                if self._calibration is not None:
                    calibrate_batch_norm(network, self._calibration, batches=self._batches)
                found['network_accuracy'] = float(evaluate(network))
        return found


def _told(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, torch.Tensor) else type(value).__name__
