"""OLES: operations that overfit the training data are frozen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import check_count
from ..errors import ConfigError
from ..mutables import holder_of, mutables_inside
from ..mutators import Extension
from ..registry import EXTENSIONS
from ..search.guards import buffers_kept, frozen, get_rng_state, replayed

__all__ = ['OperationFreezing', 'gradient_agreement']

_THRESHOLDS = {'sum': 0.4, 'validation': 0.0}
"""The default threshold of each measure."""


def gradient_agreement(first: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Return how well two gradients of the same parameters agree, from -1 to 1.

    As in the code of OLES (Jiang et al., NeurIPS 2023): of each parameter the
    cosines along its first dimension, averaged over the others and then over
    the parameters.  Where a gradient is 0 the cosine counts as 0.

    Args:
        first: A gradient for each parameter.
        other: The same.

    >>> a = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> gradient_agreement([a], [torch.tensor([[3.0, 1.0], [0.0, 0.0]])])
    tensor(0.5000)
    """
    cosines = [
        F.cosine_similarity(torch.atleast_1d(a), torch.atleast_1d(b), dim=0).mean()
        for a, b in zip(first, other, strict=True)
    ]
    return torch.stack(cosines).mean()


@EXTENSIONS.register_module()
class OperationFreezing(Extension):
    r"""Freezes each operation whose training and validation gradients part ways.

    OLES, "Operation-level early stopping" (Jiang et al., NeurIPS 2023),
    section 4.2: every candidate of every mutable is watched by itself.  Its
    :func:`gradient_agreement` is averaged over ``window`` comparisons; where
    that is under ``threshold`` its parameters are not trained any more, and
    otherwise the average begins anew:

    .. math::
        GM = \frac{1}{M} \sum_{m=1}^{M}
        \cos(g_\mathrm{train}, g_\mathrm{val}) < \theta.

    As in the authors' code, the training gradient is that of the step, and the
    validation gradient that at the weights after it; there it comes with the
    architecture step that follows, here from one more pass over the
    architecture batch of the same step.  (The authors' code divides a sum of
    21 by 20, and lets weight decay go on; this one does neither.)

    The authors' code never clears gradients between both passes, so that what it compares
    the training gradient with is the *sum* of both, :math:`\cos(g_\mathrm{train},
    g_\mathrm{train} + g_\mathrm{val})`: near 0.7 where they have nothing in common.  Its
    threshold of 0.4 belongs to that measure, the default here.  The paper's formula is
    ``compare='validation'``; with it nearly all operations of a fresh network are under 0.4,
    and a threshold near 0 says that the gradients part ways.

    Args:
        threshold: Smallest average of an operation that goes on, from -1 to 1; by default
            0.4 for ``'sum'`` and 0.0 for ``'validation'``.
        compare: What the training gradient is compared with: the ``'sum'`` of both, or the
            gradient of ``'validation'`` alone.
        window: Number of comparisons that are averaged, at least 1.
        interval: Compare in every n-th step.
        ignore_choices: Names of choices that are never frozen.

    Attributes:
        frozen_operations: ``'space/number of the mutable/choice'`` of each
            frozen one.

    Raises:
        ConfigError: An option outside of its range.
    """

    paper = 'Jiang et al., NeurIPS 2023'
    takes_gradients = True

    def __init__(
        self,
        threshold: float | None = None,
        window: int = 20,
        interval: int = 1,
        ignore_choices: Sequence[str] = ('skip_connect',),
        compare: Literal['sum', 'validation'] = 'sum',
    ) -> None:
        super().__init__()
        if compare not in _THRESHOLDS:
            raise ConfigError(
                f'Expected `compare` to be one of {tuple(_THRESHOLDS)}, but got {compare!r}'
            )
        threshold = _THRESHOLDS[compare] if threshold is None else threshold
        if not -1 <= threshold <= 1:
            raise ConfigError(f'Expected `threshold` to be from -1 to 1, but got {threshold!r}')
        check_count('window', window)
        check_count('interval', interval)
        if isinstance(ignore_choices, str) or not isinstance(ignore_choices, Iterable):
            raise ConfigError(
                f'Expected `ignore_choices` to be a list of names, but got {ignore_choices!r}'
            )
        self.threshold = threshold
        self.compare = compare
        self.window = window
        self.interval = interval
        self.ignore_choices = tuple(ignore_choices)
        self.frozen_operations: list[str] = []
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._operations: dict[str, nn.Module] = {}
        self._trainable: dict[str, list[str]] = {}

    def attach(self, mutator: Any, supernet: nn.Module) -> None:
        """List the operations that can be frozen, and freeze those that are."""
        for space_id, space in mutator.search_spaces.items():
            for number, mutable in enumerate(space['modules']):
                for name, operation in (holder_of(mutable) or {}).items():
                    trainable = [n for n, p in operation.named_parameters() if p.requires_grad]
                    inner = mutables_inside(mutable, name)
                    if trainable and not inner and name not in self.ignore_choices:
                        key = f'{space_id}/{number}/{name}'
                        self._operations[key], self._trainable[key] = operation, trainable
        self._set_flags()

    def detach(self, mutator: Any) -> None:
        """Let everything be trained again that was trainable before."""
        self._set_flags(release=True)
        self._operations, self._trainable = {}, {}

    def _params(self, key: str) -> list[nn.Parameter]:
        operation = self._operations[key]
        return [operation.get_parameter(name) for name in self._trainable[key]]

    def _set_flags(self, release: bool = False) -> None:
        for key in self._operations:
            stays = release or key not in self.frozen_operations
            for param in self._params(key):
                param.requires_grad_(stays)
                if not stays:
                    param.grad = None

    @contextmanager
    def around_weight_step(
        self, search: Any, train_batch: Any, arch_batch: Any
    ) -> Iterator[None]:
        """Compare the gradients when the step is done."""
        if search.single_level:
            raise ConfigError(
                'OperationFreezing compares the gradient with that on data which the weights '
                'are not trained on, which a search with single_level=True does not have'
            )
        yield
        if arch_batch is not None and search.iteration % self.interval == 0:
            self._compare(search, arch_batch)
            self._freeze()

    def _compare(self, search: Any, arch_batch: Any) -> None:
        """Add what the gradients of this step say to the sums."""
        running = {
            key: [param for param in self._params(key) if param.grad is not None]
            for key in self._operations
            if key not in self.frozen_operations
        }
        params = [param for group in running.values() for param in group]
        if not params:
            return
        quiet = buffers_kept(search.supernet), replayed(get_rng_state())
        with quiet[0], quiet[1], frozen(search.arch_params):
            grads = search.gradient(search.train_loss(arch_batch), params)
        of_param = dict(zip(map(id, params), grads, strict=True))
        for key, group in running.items():
            # A path that is drawn may be another one this time.
            both = [
                (param.grad, grad)
                for param in group
                if (grad := of_param[id(param)]) is not None and param.grad is not None
            ]
            if both:
                ours = [ours for ours, _ in both]
                theirs = [
                    val if self.compare == 'validation' else train + val for train, val in both
                ]
                agreement = gradient_agreement(ours, theirs)
                known = self._sums.get(key)
                self._sums[key] = agreement if known is None else known + agreement
                self._counts[key] = self._counts.get(key, 0) + 1

    def _freeze(self) -> None:
        """Freeze what has fallen under the threshold, and begin anew elsewhere."""
        due = [key for key, count in self._counts.items() if count >= self.window]
        if not due:
            return
        sums = torch.stack([self._sums.pop(key) for key in due]).tolist()
        for key, total in zip(due, sums, strict=True):
            if total / self._counts.pop(key) < self.threshold:
                self.frozen_operations.append(key)
        self._set_flags()

    def get_extra_state(self) -> dict[str, Any]:
        """Return what ``state_dict`` holds beside the parameters."""
        return {
            **super().get_extra_state(),
            'frozen': list(self.frozen_operations),
            'sums': {key: float(value) for key, value in self._sums.items()},
            'counts': dict(self._counts),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`get_extra_state` was called."""
        super().set_extra_state(state)
        self.frozen_operations = list(state['frozen'])
        self._counts = dict(state['counts'])
        like = next((self._params(key)[0] for key in self._operations), torch.empty(0))
        self._sums = {
            key: torch.tensor(value, dtype=like.dtype, device=like.device)
            for key, value in state['sums'].items()
        }
        self._set_flags()
